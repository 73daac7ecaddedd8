"""What may wait, for how long, and whose turn it is."""

from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pileus.core.records import Lane
from pileus.scheduling.admission import AdmissionQueue
from pileus.scheduling.bounds import Bounds, Refusal, Standing
from pileus.scheduling.fairness import Share


@dataclass(eq=False)
class Item:
    prompt_tokens: int = 10
    max_answer_tokens: int = 10
    tenant: str = "t"
    lane: Lane = Lane.ON_DEMAND
    priority: int = 0
    due: float | None = None
    choices: int = 1


def queue(
    requests: int = 1000,
    tokens: int = 1_000_000,
    wait_s: float = 60.0,
    foreseen_s: float = 60.0,
    **shares: Share,
) -> AdmissionQueue[Item]:
    return AdmissionQueue(Bounds(requests, tokens, wait_s, foreseen_s), shares)


def admit(waiting: AdmissionQueue[Item], item: Item, now: float = 0.0) -> Item:
    assert waiting.offer(item, now) == []
    return item


def refused(waiting: AdmissionQueue[Item], item: Item, now: float = 0.0) -> Refusal:
    refusal = waiting.offer(item, now)
    assert isinstance(refusal, Refusal)
    return refusal


def take(waiting: AdmissionQueue[Item], now: float = 0.0) -> Item:
    item = waiting.head(now)
    assert item is not None
    waiting.take(item, now)
    return item


def drain(waiting: AdmissionQueue[Item], now: float = 0.0) -> list[Item]:
    taken = []
    while waiting.head(now) is not None:
        taken.append(take(waiting, now))
    return taken


def busy(waiting: AdmissionQueue[Item], work_per_s: int) -> float:
    """As if that rate had been measured; the time afterwards."""
    waiting.rate.observe(work_per_s, 10.0)
    return 10.0


# --- order ----------------------------------------------------------------------------------------------------------


def test_one_tenants_requests_go_first_come_first_served_within_their_priority() -> None:
    waiting = queue()
    items = [admit(waiting, Item(priority=priority)) for priority in (0, 0, 5, 0, 5)]
    assert drain(waiting) == [items[2], items[4], items[0], items[1], items[3]]


def test_a_quiet_tenant_does_not_wait_behind_a_noisy_one() -> None:
    waiting = queue()
    for _ in range(100):
        admit(waiting, Item(tenant="noisy"))
    quiet = admit(waiting, Item(tenant="quiet"))
    assert quiet in [take(waiting), take(waiting)]


def test_tenants_share_in_proportion_to_their_weights() -> None:
    waiting = queue(a=Share(weight=3))
    for _ in range(100):
        admit(waiting, Item(tenant="a"))
        admit(waiting, Item(tenant="b"))
    first = Counter(take(waiting).tenant for _ in range(80))
    assert first["a"] == pytest.approx(60, abs=1)


def test_longer_answers_than_foretold_count_against_their_tenant_afterwards() -> None:
    waiting = queue()
    for _ in range(200):
        admit(waiting, Item(tenant="long", max_answer_tokens=1000))
        admit(waiting, Item(tenant="short", max_answer_tokens=1000))
    served = Counter[str]()
    for _ in range(110):
        item = take(waiting)
        waiting.served(item, 1000 if item.tenant == "long" else 100, 0.0)
        served[item.tenant] += 1
    assert served["short"] / served["long"] == pytest.approx(10, rel=0.15)


def test_batch_work_waits_until_nothing_urgent_does() -> None:
    waiting = queue()
    batch = admit(waiting, Item(lane=Lane.BATCH))
    urgent = [admit(waiting, Item()) for _ in range(3)]
    assert drain(waiting) == [*urgent, batch]


def test_batch_work_becomes_urgent_shortly_before_its_deadline() -> None:
    waiting = queue(wait_s=10_000)
    batch = admit(waiting, Item(lane=Lane.BATCH, tenant="b", due=3600.0))
    for _ in range(3):
        admit(waiting, Item())
    assert waiting.head(3500.0) is not batch
    assert batch in [take(waiting, 3545.0), take(waiting, 3545.0)]


def test_a_guaranteed_rate_goes_before_all_others_and_what_is_above_it_does_not() -> None:
    waiting = queue(paying=Share(tokens_per_s=10))
    for _ in range(200):
        admit(waiting, Item(tenant="free"))
        admit(waiting, Item(tenant="free2"))
        admit(waiting, Item(tenant="paying", lane=Lane.CONTINUOUS))
    first = [take(waiting) for _ in range(5)]
    assert [item.tenant for item in first] == ["paying"] * 5  # ten tokens each: the burst of five seconds
    after = Counter(take(waiting).tenant for _ in range(90))
    assert after["paying"] <= 32
    second = Counter(take(waiting, 1.0 + second).tenant for second in range(20))
    assert second["paying"] >= 19


def test_who_lost_its_replica_goes_first_and_is_not_charged_twice() -> None:
    waiting = queue()
    lost = admit(waiting, Item(tenant="a"))
    for tenant in "abb":
        admit(waiting, Item(tenant=tenant))
    waiting.take(lost, 0.0)
    waiting.put_back(lost, 0.0)
    assert take(waiting) is lost
    assert [item.tenant for item in drain(waiting)] == ["b", "a", "b"]


def test_batch_work_that_lost_its_replica_does_not_overtake_urgent_work() -> None:
    waiting = queue()
    lost = admit(waiting, Item(lane=Lane.BATCH))
    waiting.take(lost, 0.0)
    later = admit(waiting, Item(lane=Lane.BATCH))
    urgent = admit(waiting, Item())
    waiting.put_back(lost, 0.0)
    assert drain(waiting) == [urgent, lost, later]


def test_who_waits_is_told_by_tenant_and_lane() -> None:
    waiting = queue()
    for item in (Item(tenant="b"), Item(tenant="a", lane=Lane.BATCH), Item(tenant="a"), Item(tenant="a")):
        admit(waiting, item)
    assert waiting.standings() == [
        Standing("a", Lane.BATCH, 1, 20),
        Standing("a", Lane.ON_DEMAND, 2, 40),
        Standing("b", Lane.ON_DEMAND, 1, 20),
    ]


# --- bounds ---------------------------------------------------------------------------------------------------------


def test_a_full_queue_refuses_with_a_time_to_retry_after() -> None:
    waiting = queue(requests=1)
    admit(waiting, Item())
    assert refused(waiting, Item()).retry_after_s >= 1


def test_tokens_are_bounded_but_one_large_request_may_always_wait_alone() -> None:
    waiting = queue(tokens=100)
    large = admit(waiting, Item(490, 10))
    refused(waiting, Item(1, 0))
    waiting.take(large, 0.0)
    admit(waiting, Item(50, 10))
    refused(waiting, Item(50, 10))


def test_a_full_queue_makes_room_at_the_cost_of_whoever_uses_most_of_it() -> None:
    waiting = queue(requests=4)
    noisy = [admit(waiting, Item(tenant="noisy")) for _ in range(3)]
    admit(waiting, Item(tenant="b"))
    displaced = waiting.offer(Item(tenant="quiet"), 0.0)
    assert isinstance(displaced, list)
    assert [item for item, _ in displaced] == [noisy[-1]]
    assert len(waiting) == 4
    refused(waiting, Item(tenant="noisy"))


def test_who_would_leave_in_vain_stays() -> None:
    waiting = queue(tokens=100)
    urgent = admit(waiting, Item(70, 5))
    batch = [admit(waiting, Item(10, 0, lane=Lane.BATCH)) for _ in range(2)]
    refused(waiting, Item(40, 0))
    assert waiting.tokens == 95
    assert drain(waiting) == [urgent, *batch]


def test_batch_work_makes_room_for_urgent_work_and_never_the_other_way_round() -> None:
    waiting = queue(requests=2)
    batch = admit(waiting, Item(lane=Lane.BATCH))
    admit(waiting, Item())
    displaced = waiting.offer(Item(), 0.0)
    assert isinstance(displaced, list)
    assert [item for item, _ in displaced] == [batch]
    refused(waiting, Item(lane=Lane.BATCH, tenant="other"))


def test_what_would_wait_too_long_is_refused_at_once_and_told_when_to_come_back() -> None:
    waiting = queue(foreseen_s=5.0)
    now = busy(waiting, 100)
    while not isinstance(refusal := waiting.offer(Item(10, 0), now), Refusal):
        pass
    assert len(waiting) == pytest.approx(50, rel=0.2)
    assert "would wait" in refusal.reason
    assert 1 <= refusal.retry_after_s < 3


def test_a_deadline_that_cannot_be_met_is_refused_before_any_work() -> None:
    waiting = queue()
    now = busy(waiting, 100)
    for _ in range(60):
        admit(waiting, Item(10, 0), now)
    refused(waiting, Item(10, 0, due=now + 2), now)
    admit(waiting, Item(10, 0, due=now + 20), now)
    refused(waiting, Item(10, 0, tenant="other", due=now - 1), now)


def test_a_quiet_tenant_is_not_refused_for_a_noisy_ones_backlog() -> None:
    waiting = queue(foreseen_s=5.0)
    now = busy(waiting, 100)
    for _ in range(60):
        waiting.offer(Item(10, 0, tenant="noisy"), now)
    refused(waiting, Item(10, 0, tenant="noisy"), now)
    admit(waiting, Item(10, 0, tenant="quiet"), now)


def run(waiting: AdmissionQueue[Item], now: float, tenant: str = "t", lane: Lane = Lane.ON_DEMAND) -> Item:
    item = admit(waiting, Item(10, 10, tenant, lane), now)
    waiting.take(item, now)
    return item


def test_a_slot_that_comes_free_late_is_foreseen_whatever_the_rate() -> None:
    """Slots that a burst filled come free together: until then the mean rate means nothing."""
    waiting = queue(foreseen_s=1.0)
    for second in range(60):
        waiting.served(run(waiting, float(second)), 10, second + 4.0)  # four seconds for an answer
    running = [run(waiting, 100.0) for _ in range(8)]
    assert "would wait" in refused_when_full(waiting, Item(10, 10), 100.1).reason
    admit(waiting, Item(10, 10), 100.1)  # where there is room after all
    assert waiting.offer(Item(10, 10), 103.2, full=True) == []
    assert len(running) == 8


def refused_when_full(waiting: AdmissionQueue[Item], item: Item, now: float) -> Refusal:
    refusal = waiting.offer(item, now, full=True)
    assert isinstance(refusal, Refusal)
    return refusal


def test_what_lost_its_replica_comes_to_its_end_the_sooner() -> None:
    waiting = queue(foreseen_s=2.0)
    for second in range(60):
        waiting.served(run(waiting, float(second)), 10, second + 4.0)
    lost = run(waiting, 100.0)
    refused_when_full(waiting, Item(10, 10), 100.0)
    waiting.put_back(lost, 103.0)
    waiting.take(lost, 110.0)
    assert waiting.offer(Item(10, 10), 110.0, full=True) == []


def test_batch_work_that_runs_is_no_measure_of_how_fast_urgent_work_is_served() -> None:
    waiting = queue()
    for lane in (Lane.BATCH, Lane.ON_DEMAND):
        waiting.served(run(waiting, 0.0, lane=lane), 10, 2.0)
    running = [run(waiting, 10.0, lane=lane) for lane in (Lane.ON_DEMAND, Lane.ON_DEMAND, *[Lane.BATCH] * 6)]
    admit(waiting, Item(), 11.0)
    waiting.served(running[0], 10, 12.0)
    assert waiting.rate.per_s == pytest.approx(2 * 50 / 2)


def test_who_would_be_given_a_slot_by_others_need_not_wait_for_one_to_come_free() -> None:
    waiting = queue(foreseen_s=1.0)
    for second in range(60):
        waiting.served(run(waiting, float(second)), 10, second + 4.0)
    for _ in range(8):
        run(waiting, 100.0, "noisy")
    refused_when_full(waiting, Item(10, 10, "noisy"), 100.1)
    assert waiting.offer(Item(10, 10, "quiet"), 100.1, full=True) == []


@pytest.mark.parametrize("apart_s", [0.0, 0.5])
def test_the_rate_is_that_of_what_runs_whether_it_ends_together_or_not(apart_s: float) -> None:
    """Four slots, two seconds for an answer that is work of 50; somebody waits, but never for longer than a moment."""
    waiting = queue()
    running = [(run(waiting, number * apart_s), 2 + number * apart_s) for number in range(4)]
    for _ in range(100):
        item, ends = running.pop(0)
        admit(waiting, Item(10, 10), ends - 0.01)
        waiting.served(item, 10, ends)
        running.append((take(waiting, ends), ends + 2))
    assert waiting.rate.per_s == pytest.approx(4 * 50 / 2, rel=0.05)


def test_who_is_refused_is_not_told_to_come_back_with_all_the_others() -> None:
    waiting = queue(foreseen_s=5.0)
    now = busy(waiting, 100)
    while not isinstance(refusal := waiting.offer(Item(10, 0), now), Refusal):
        pass
    told = [refusal.retry_after_s, *(refused(waiting, Item(10, 0), now).retry_after_s for _ in range(99))]
    assert told == sorted(set(told))
    assert told[-1] == pytest.approx(100 * 10 / 100 / 0.7, rel=0.2)


def test_a_guaranteed_rate_is_not_refused_for_what_others_wait_for() -> None:
    waiting = queue(foreseen_s=5.0, paying=Share(tokens_per_s=10))
    now = busy(waiting, 100)
    for tenant in range(60):
        waiting.offer(Item(10, 0, tenant=f"t{tenant}"), now)
    refused(waiting, Item(10, 10, tenant="other"), now)
    admit(waiting, Item(10, 10, tenant="paying", lane=Lane.CONTINUOUS), now)


# --- leaving --------------------------------------------------------------------------------------------------------


def test_what_waits_too_long_leaves() -> None:
    waiting = queue(wait_s=5.0)
    first = admit(waiting, Item(), 0.0)
    second = admit(waiting, Item(), 3.0)
    assert waiting.next_expiry() == 5.0
    assert waiting.expire(5.0) == [first]
    assert waiting.next_expiry() == 8.0
    assert drain(waiting, 5.0) == [second]
    assert waiting.next_expiry() is None


def test_batch_work_waits_as_long_as_its_deadline_allows() -> None:
    waiting = queue(wait_s=5.0)
    batch = admit(waiting, Item(lane=Lane.BATCH, due=3600.0))
    assert waiting.expire(3599.0) == []
    assert waiting.expire(3600.0) == [batch]


def test_withdrawing_takes_it_out_once() -> None:
    waiting = queue()
    item = admit(waiting, Item())
    assert waiting.withdraw(item)
    assert not waiting.withdraw(item)
    assert (len(waiting), waiting.tokens, waiting.head(0.0)) == (0, 0, None)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["offer", "take", "withdraw", "put_back", "served", "expire"]),
            st.sampled_from("abc"),
            st.sampled_from(list(Lane)),
            st.integers(0, 3),
        ),
        max_size=120,
    )
)
def test_whatever_happens_the_books_agree_with_what_waits(steps: list[tuple[str, str, Lane, int]]) -> None:
    waiting = queue(requests=8, tokens=300, wait_s=5.0, a=Share(weight=2, tokens_per_s=5))
    queued: list[Item] = []
    running: list[Item] = []
    now = 0.0
    for step, tenant, lane, number in steps:
        now += 0.3
        if step == "offer":
            item = Item(10 + number, 10, tenant, lane, number)
            answer = waiting.offer(item, now)
            if not isinstance(answer, Refusal):
                queued = [other for other in queued if other not in [gone for gone, _ in answer]] + [item]
        elif step == "take" and (head := waiting.head(now)) is not None:
            waiting.take(head, now)
            queued.remove(head)
            running.append(head)
        elif step == "withdraw" and queued:
            assert waiting.withdraw(queued.pop(number % len(queued)))
        elif step == "put_back" and running:
            item = running.pop(0)
            waiting.put_back(item, now)
            queued.append(item)
        elif step == "served" and running:
            waiting.served(running.pop(0), number, now)
        elif step == "expire":
            gone = waiting.expire(now)
            queued = [item for item in queued if item not in gone]
        assert len(waiting) == len(queued)
        assert waiting.tokens == sum(item.prompt_tokens + item.max_answer_tokens for item in queued)
    assert {id(item) for item in drain(waiting, now)} == {id(item) for item in queued}


def test_batch_work_that_became_urgent_counts_as_urgent_work_of_its_tenant() -> None:
    waiting = queue()
    for _ in range(40):
        admit(waiting, Item(tenant="hasty", lane=Lane.BATCH, due=30.0))
        admit(waiting, Item(tenant="other"))
    assert Counter(take(waiting).tenant for _ in range(20)) == {"hasty": 10, "other": 10}


def test_an_idle_hour_does_not_count_as_slow_service() -> None:
    waiting = queue(foreseen_s=10.0)
    now = busy(waiting, 1000) + 3600.0
    first = admit(waiting, Item(tenant="a", prompt_tokens=1000, max_answer_tokens=0), now)
    second = admit(waiting, Item(tenant="a", prompt_tokens=1000, max_answer_tokens=0), now)
    for item in (first, second):
        waiting.take(item, now)
    admit(waiting, Item(tenant="b", prompt_tokens=1000, max_answer_tokens=0), now + 0.5)
    waiting.served(first, 0, now + 1.0)
    assert waiting.rate.per_s == pytest.approx(1000, rel=1.0)
    admit(waiting, Item(tenant="c", prompt_tokens=1000, max_answer_tokens=0), now + 1.0)


def test_batch_work_is_refused_early_when_urgent_work_alone_outlasts_its_deadline() -> None:
    waiting = queue(foreseen_s=10_000.0)
    now = busy(waiting, 1000)
    for _ in range(100):
        admit(waiting, Item(tenant="urgent", prompt_tokens=1000, max_answer_tokens=0), now)
    refused(waiting, Item(tenant="late", lane=Lane.BATCH, due=now + 50), now)
    admit(waiting, Item(tenant="late", lane=Lane.BATCH, due=now + 150), now)


def test_guarantees_that_exceed_the_capacity_are_kept_in_equal_parts() -> None:
    waiting = queue(first=Share(tokens_per_s=100), second=Share(tokens_per_s=100))
    for _ in range(100):
        for tenant in ("first", "second"):
            admit(waiting, Item(tenant=tenant, lane=Lane.CONTINUOUS, max_answer_tokens=10))
    taken: Counter[str] = Counter()
    for tenth in range(100):
        item = take(waiting, 10.0 + tenth / 10)
        taken[item.tenant] += 1
        waiting.served(item, 10, 10.0 + tenth / 10)
    assert taken["first"] == pytest.approx(taken["second"], abs=2)


def test_work_that_is_promised_does_not_give_up_its_slot() -> None:
    waiting = queue(paying=Share(tokens_per_s=1000))
    promised = [admit(waiting, Item(tenant="paying", lane=Lane.CONTINUOUS)) for _ in range(4)]
    assert drain(waiting) == promised
    admit(waiting, Item(tenant="other"))
    assert waiting.exchange() is None

"""FAULTS 5, 6 and 24: replicas that live and fail, that are slow, and that run out of memory. Real processes."""

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from changing_fleet import deployment, running, states, until
from faults.gateway import PROMPT, Answer, Gateway, at_rest, undisturbed
from pileus.fleet.controller import Fleet
from pileus.scheduling import outliers
from pileus.scheduling.outliers import FAILURES

TOKENS = 20
STEP_S = 0.01
WRONG = {"faults": [{"kind": "refuse", "prompt_token": PROMPT[-1]}]}  # what proves it ready has another prompt
GREEDY = 13
MEMORY_BYTES = 256 << 20


def served_by(fleet: Fleet) -> Counter[str]:
    """Tokens by replica; the figures come twice a second."""
    return Counter({link.replica: link.stats.generated_tokens for link in fleet.directory.ready("fake")})


async def all_ready(fleet: Fleet, replicas: int) -> None:
    await until(fleet, lambda: len(fleet.directory.ready("fake")) == replicas)


@pytest.mark.fault(5, "1 of 3 and 2 of 3 fake replicas fail every request, but prove well", "ejected, at most half")
@pytest.mark.parametrize("wrong", [1, 2])
async def test_replicas_that_live_and_fail_sit_out_but_never_most_of_them(
    tmp_path: Path, wrong: int, measured: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outliers, "BASE_S", outliers.LONGEST_S)  # it sits out for longer than this test lasts
    bad = {f"fake/{number}": WRONG for number in range(wrong)}
    spec = deployment(replicas=3, options={"step_s": 0.002}, options_of=bad)
    async with running(tmp_path, spec) as fleet:
        await all_ready(fleet, 3)
        gateway, text = Gateway(fleet), undisturbed(TOKENS)
        outcomes: list[str] = []
        with capture_logs() as events:
            for _ in range(25):
                outcomes += [answer.error for answer in await asyncio.gather(*(gateway.ask(TOKENS) for _ in range(3)))]
        await at_rest(fleet, gateway)
        assert [state for _, state in states(fleet)] == ["ready"] * 3
        answer = await gateway.ask(TOKENS) if wrong == 1 else Answer("", text)
    failures = outcomes.count("EngineFailed")
    ejected = [event["replica"] for event in events if event["event"] == "replica_ejected"]
    measured(f"{wrong} wrong: {len(ejected)} ejected; {failures} of {len(outcomes)} failed")
    assert len(ejected) == 1
    assert ejected[0] in bad
    assert set(outcomes) <= {"", "EngineFailed"}
    assert (answer.text, answer.error) == (text, "")
    assert len(gateway.ledger.settled) == len(outcomes) + (wrong == 1)
    if wrong == 1:
        assert FAILURES <= failures <= FAILURES + 2  # those that were on their way besides
    else:  # one of the two goes on: to have both sit out would leave too few
        assert FAILURES < failures < len(outcomes)


async def steady_load(gateway: Gateway, per_s: float, count: int) -> list[Answer]:
    """Requests that come at an even pace, whether or not those before are done."""

    async def later(delay_s: float) -> Answer:
        await asyncio.sleep(delay_s)
        return await gateway.ask(TOKENS)

    return await asyncio.gather(*(later(number / per_s) for number in range(count)))


def p99(answers: list[Answer]) -> float:
    ordered = sorted(answer.total_s for answer in answers)
    return ordered[int(len(ordered) * 0.99)]


async def latencies(folder: Path, **slow: Any) -> tuple[float, float, float]:
    """The p99 of the first second and of what comes after, in seconds, and fake/0's share of the latter's tokens."""
    spec = deployment(replicas=3, options={"step_s": STEP_S, "slots": 16}, options_of={"fake/0": slow})
    async with running(folder, spec) as fleet:
        await all_ready(fleet, 3)
        gateway = Gateway(fleet)
        first = await steady_load(gateway, 50, 50)
        await at_rest(fleet, gateway)
        before = served_by(fleet)
        after = await steady_load(gateway, 50, 150)
        await at_rest(fleet, gateway)
        tokens = served_by(fleet) - before
        assert {answer.text for answer in first + after} == {undisturbed(TOKENS)}
    return p99(first), p99(after), tokens["fake/0"] / tokens.total()


@pytest.mark.fault(6, "1 of 3 fake replicas takes 10 times as long", "load shifts; p99 at most 2x, once measured")
async def test_load_shifts_away_from_a_slow_replica(tmp_path: Path, measured: Callable[[str], None]) -> None:
    """A replica's speed is known after the first half second of its work: what it was given till then stays with it,
    and stays slow. What is usual is measured at the same time: a machine that stands still does so for both."""
    usual, slow = tmp_path / "usual", tmp_path / "slow"
    (_, usual_s, usual_share), (first_s, shifted_s, share) = await asyncio.gather(
        latencies(usual), latencies(slow, faults=[{"kind": "slow", "factor": 10}])
    )
    measured(
        f"p99 {usual_s * 1e3:.0f} ms undisturbed, {first_s * 1e3:.0f} ms in the first second, "
        f"{shifted_s * 1e3:.0f} ms then; its share of the tokens {usual_share:.0%}, then {share:.1%}"
    )
    assert shifted_s <= 2 * usual_s
    assert share < usual_share / 10


@pytest.mark.fault(
    24,
    f"RLIMIT_AS {MEMORY_BYTES >> 20} MiB above the start's; a prompt on which the engine maps more",
    "restart with back-off; a request that kills twice is not tried a third time",
)
async def test_a_request_that_exhausts_memory_twice_is_not_tried_a_third_time(
    tmp_path: Path, measured: Callable[[str], None]
) -> None:
    spec = deployment(
        replicas=3, options={"step_s": 0.002}, memory_bytes=MEMORY_BYTES, greedy_token=GREEDY, grace_s=1.0
    )
    async with running(tmp_path, spec) as fleet:
        await all_ready(fleet, 3)
        gateway = Gateway(fleet)
        killer = await gateway.ask(1000, prompt=(1, 2, GREEDY))
        after = await gateway.ask(TOKENS)  # the third lives on
        await all_ready(fleet, 3)
        await at_rest(fleet, gateway)
        lives = sorted(replica.restarts for replica in fleet.status()[0].replicas)
        errors = [replica.last_error for replica in fleet.status()[0].replicas if replica.restarts]
    measured(f"{sum(lives)} deaths, then {killer.error}; all three ready again")
    assert lives == [0, 1, 1]
    assert all("MemoryError" in error for error in errors), errors
    assert killer.error == "Quarantined"
    assert (after.text, after.error) == (undisturbed(TOKENS), "")
    assert len(gateway.ledger.settled) == 2

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pileus.fleet import lifecycle
from pileus.fleet.lifecycle import Action, Decision, Life, Phase, decide


def after_deaths(count: int, *, apart_s: float, reason: str = "x") -> Life:
    """A replica that died so often, each time while it started."""
    life = Life()
    for number in range(count):
        life = lifecycle.died(lifecycle.started(life, number * apart_s), number * apart_s, reason)
    return life


def test_a_wanted_replica_starts_at_once() -> None:
    assert decide(Life(), wanted=True, now=5) == Decision(Action.START)


def test_each_start_has_the_next_epoch() -> None:
    life = lifecycle.started(lifecycle.started(Life(), 0), 1)
    assert (life.epoch, life.restarts) == (2, 1)


def test_deaths_are_waited_out_longer_and_longer() -> None:
    delays = [after_deaths(count, apart_s=61).delay_s for count in range(1, 12)]
    assert delays == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30, 30]


def test_a_restart_waits_for_the_delay_and_no_longer() -> None:
    life = after_deaths(1, apart_s=0)
    assert decide(life, wanted=True, now=0.1) == Decision(Action.WAIT, 0.1)
    assert decide(life, wanted=True, now=0.2) == Decision(Action.START)


def test_a_death_after_a_stable_minute_is_a_new_story() -> None:
    life = lifecycle.proven(lifecycle.started(after_deaths(4, apart_s=61), 300), 300)
    assert lifecycle.died(life, 359, "x").delay_s == 3.2
    assert lifecycle.died(life, 360, "x").delay_s == 0.2


def test_a_lost_connection_does_not_begin_the_minute_again() -> None:
    life = lifecycle.proven(lifecycle.started(Life(), 0), 10)
    assert lifecycle.proven(life, 50) == life


def test_five_deaths_in_a_minute_are_a_crash_loop_and_tell_the_last_reason() -> None:
    assert after_deaths(4, apart_s=14).phase is Phase.BACKOFF
    life = after_deaths(5, apart_s=14, reason="out of memory")
    assert (life.phase, life.last_error, life.delay_s) == (Phase.CRASH_LOOP, "out of memory", 30)
    assert decide(life, wanted=True, now=4 * 14 + 30) == Decision(Action.START)


def test_a_crash_loop_stays_one_until_a_stable_minute() -> None:
    life = after_deaths(5, apart_s=1)
    for number in range(1, 5):
        life = lifecycle.died(lifecycle.started(life, 100.0 * number), 100.0 * number, "x")
        assert (life.phase, life.delay_s) == (Phase.CRASH_LOOP, 30)
    stable = lifecycle.proven(lifecycle.started(life, 600), 600)
    assert lifecycle.died(stable, 700, "x").phase is Phase.BACKOFF


def test_a_refusal_is_not_retried_soon() -> None:
    life = lifecycle.died(lifecycle.started(Life(), 0), 1, "wrong hash", refused=True)
    assert (life.phase, life.last_error) == (Phase.CRASH_LOOP, "wrong hash")
    assert decide(life, wanted=True, now=1) == Decision(Action.WAIT, 30)


def test_what_is_not_wanted_drains_if_it_serves_and_stops_if_it_does_not() -> None:
    starting = lifecycle.started(Life(), 0)
    ready = lifecycle.proven(starting, 0)
    assert decide(starting, wanted=False, now=0).action is Action.STOP
    assert decide(ready, wanted=False, now=0).action is Action.DRAIN
    assert decide(lifecycle.draining(ready, 0), wanted=False, now=0).action is Action.WAIT
    assert decide(lifecycle.stopped(ready, 0), wanted=False, now=0).action is Action.END
    assert decide(after_deaths(1, apart_s=0), wanted=False, now=0).action is Action.END


class Lives(RuleBasedStateMachine):
    """Follows every decision, with deaths at any moment, and looks at how often the replica is started."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.life = Life()
        self.starts: list[float] = []
        self.epochs = [0]

    @property
    def running(self) -> bool:
        return self.life.phase in (Phase.STARTING, Phase.READY)

    @rule(seconds=st.floats(0, 90))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def follow_the_decision(self) -> None:
        decision = decide(self.life, wanted=True, now=self.now)
        if decision.action is Action.START:
            assert not self.running
            self.life = lifecycle.started(self.life, self.now)
            self.starts.append(self.now)
            self.epochs.append(self.life.epoch)
        else:
            assert decision.action is Action.WAIT
            assert (decision.wait_s is None) == self.running
            if decision.wait_s is not None:
                assert 0 < decision.wait_s <= lifecycle.LONGEST_DELAY_S + 1e-6

    @precondition(lambda self: self.running)
    @rule()
    def it_is_proven(self) -> None:
        self.life = lifecycle.proven(self.life, self.now)

    @precondition(lambda self: self.running)
    @rule(refused=st.booleans())
    def it_dies(self, refused: bool) -> None:
        self.life = lifecycle.died(self.life, self.now, "x", refused=refused)

    @invariant()
    def epochs_rise(self) -> None:
        assert self.epochs == sorted(set(self.epochs))

    @invariant()
    def it_is_never_hammered(self) -> None:
        recent = [at for at in self.starts if self.now - at < lifecycle.LOOP_WINDOW_S]
        assert len(recent) <= lifecycle.LOOP_DEATHS + 2  # the loop's own, and retries of half a minute


TestLives = Lives.TestCase
TestLives.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@settings(deadline=None)
@given(st.lists(st.floats(0, 200), min_size=1, max_size=30))
def test_the_delay_stays_within_its_bounds(pauses: list[float]) -> None:
    life, now = Life(), 0.0
    for pause in pauses:
        now += pause
        life = lifecycle.died(lifecycle.started(life, now), now, "x")
        assert lifecycle.FIRST_DELAY_S <= life.delay_s <= lifecycle.LONGEST_DELAY_S
        assert len(life.deaths) <= lifecycle.LOOP_DEATHS

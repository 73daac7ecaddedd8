"""One replica's life, as a state machine without processes or clocks.

    stopped -> starting -> ready -> draining -> stopped
                  |          |
                  +----------+--> backoff -> starting        died: again soon, then later and later
                             +--> crash-loop -> starting     died again and again, or refused: again much later

Transitions take the state and the time and return the next state; `decide` says what to do in a state.
"""

from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

FIRST_DELAY_S = 0.2
LONGEST_DELAY_S = 30.0
STABLE_S = 60.0  # ready for so long: the next death is a new story
LOOP_DEATHS = 5
LOOP_WINDOW_S = 60.0


class Phase(StrEnum):
    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    BACKOFF = "backoff"
    CRASH_LOOP = "crash-loop"


class Life(Struct, frozen=True, kw_only=True):
    """Where a replica is, and how it came there."""

    phase: Phase = Phase.STOPPED
    since_s: float = 0.0
    epoch: int = 0  # one more at each start
    delay_s: float = 0.0  # before the present or the last restart; 0 when the last life was stable
    deaths: tuple[float, ...] = ()  # when, within the window
    last_error: str = ""
    given_up: bool = False  # the last death was its killing: it was hung, or could not be reached

    @property
    def restarts(self) -> int:
        return max(0, self.epoch - 1)


class Action(StrEnum):
    START = "start"
    STOP = "stop"  # at once: it serves nobody
    DRAIN = "drain"
    WAIT = "wait"
    END = "end"  # nothing runs, and nothing shall


class Decision(Struct, frozen=True):
    """What to do; for `WAIT`, for how long, unless something happens (None: until something happens)."""

    action: Action
    wait_s: float | None = None


def started(life: Life, now: float) -> Life:
    return replace(life, phase=Phase.STARTING, since_s=now, epoch=life.epoch + 1)


def proven(life: Life, now: float) -> Life:
    """It answered a real request. When it lost only its connection, it has been ready all along."""
    return life if life.phase is Phase.READY else replace(life, phase=Phase.READY, since_s=now)


def draining(life: Life, now: float) -> Life:
    return replace(life, phase=Phase.DRAINING, since_s=now)


def stopped(life: Life, now: float) -> Life:
    """It ended because it should."""
    return life if life.phase is Phase.STOPPED else replace(life, phase=Phase.STOPPED, since_s=now)


def died(life: Life, now: float, reason: str, *, refused: bool = False, given_up: bool = False) -> Life:
    """It ended though it should run. `refused`: it said itself that the same start would fail again."""
    stable = life.phase is Phase.READY and now - life.since_s >= STABLE_S
    recent = tuple(at for at in life.deaths if now - at < LOOP_WINDOW_S)
    deaths = (*recent, now)[-LOOP_DEATHS:]
    if refused or len(deaths) >= LOOP_DEATHS:
        delay_s = LONGEST_DELAY_S
    elif stable or not life.delay_s:
        delay_s = FIRST_DELAY_S
    else:
        delay_s = min(2 * life.delay_s, LONGEST_DELAY_S)
    phase = Phase.BACKOFF if delay_s < LONGEST_DELAY_S else Phase.CRASH_LOOP
    return replace(life, phase=phase, since_s=now, delay_s=delay_s, deaths=deaths, last_error=reason, given_up=given_up)


def decide(life: Life, *, wanted: bool, now: float) -> Decision:
    """What to do with a replica that shall run, or shall not."""
    if wanted:
        if life.phase is Phase.STOPPED:
            return Decision(Action.START)
        if life.phase in (Phase.BACKOFF, Phase.CRASH_LOOP):
            left_s = life.since_s + life.delay_s - now
            return Decision(Action.WAIT, left_s) if left_s > 0 else Decision(Action.START)
        return Decision(Action.WAIT)
    if life.phase is Phase.READY:
        return Decision(Action.DRAIN)
    if life.phase is Phase.STARTING:
        return Decision(Action.STOP)
    if life.phase is Phase.DRAINING:
        return Decision(Action.WAIT)
    return Decision(Action.END)

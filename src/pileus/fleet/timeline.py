"""What happened to deployments and their replicas of late: the last events, in memory, in the order of their times."""

from collections import deque
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from pileus.fleet.lifecycle import Life, Phase
from pileus.scheduling.scaling import Cause

KEPT = 500
LONGEST_REASON = 500  # characters: a process may die with long last lines
_LEAST_STEP_S = 1e-6


class EventKind(StrEnum):
    REPLICA_READY = "replica_ready"
    REPLICA_CRASHED = "replica_crashed"  # it ended by itself, or somebody killed it
    REPLICA_HUNG = "replica_hung"  # it was given up, and killed
    REPLICA_RESTARTED = "replica_restarted"  # its process is there again; it is not ready yet
    REPLICA_EJECTED = "replica_ejected"  # it failed request after request, and gets none for a while
    REPLICA_DRAINED = "replica_drained"  # it was to go, and is gone
    REQUESTS_RESUMED = "requests_resumed"  # they were on it, and go on elsewhere
    SCALED = "scaled"
    ROLL_BEGUN = "roll_begun"  # each replica is replaced
    ROLL_ENDED = "roll_ended"
    DEPLOYED = "deployed"
    UNDEPLOYED = "undeployed"
    PROMOTED = "promoted"  # it has all requests of a public name
    CANARY = "canary"  # it has a share of them, or more of it
    ROLLED_BACK = "rolled_back"  # it has none of them any more
    DEPLOY_FAILED = "deploy_failed"
    SCALE_FAILED = "scale_failed"
    RESTART_FAILED = "restart_failed"
    UNDEPLOY_FAILED = "undeploy_failed"


class FleetEvent(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One event. Which of the fields it has follows from its kind."""

    t: float  # wall clock
    deployment: str
    kind: EventKind
    replica: str = ""  # deployment/number, where it is one's
    reason: str = ""  # of a crash, a hang or a failure: what was said of it
    by: str = ""  # whose key did it, where somebody did
    cause: Cause | None = None  # scaled: why
    before: int | None = None  # scaled: replicas
    after: int | None = None
    took_s: float | None = None  # ready: its start; drained: its end
    retry_s: float | None = None  # crashed, hung: until it starts again; restarted: what it waited
    requests: int = 0  # resumed: how many


class Timeline:
    """The last `KEPT` events. Their times strictly increase, even where the clock does not: whoever asks for what came
    after the last one that it knows misses none, and gets none twice."""

    def __init__(self, kept: int = KEPT) -> None:
        self._events: deque[FleetEvent] = deque(maxlen=kept)

    def add(self, event: FleetEvent) -> None:
        earliest = self._events[-1].t + _LEAST_STEP_S if self._events else event.t
        reason = event.reason
        if len(reason) > LONGEST_REASON:
            reason = reason[: LONGEST_REASON - 1] + "…"
        self._events.append(replace(event, t=max(event.t, earliest), reason=reason))

    def events(self, since: float = 0.0, deployment: str = "") -> list[FleetEvent]:
        """Those after a wall-clock time, oldest first; of one deployment, or of all."""
        return [event for event in self._events if event.t > since and deployment in ("", event.deployment)]


def turn(deployment: str, replica: str, before: Life, after: Life, wall: float) -> FleetEvent | None:
    """The event that a step in a replica's life is, if it is one; at this wall-clock time."""
    event = FleetEvent(t=wall, deployment=deployment, replica=replica, kind=EventKind.REPLICA_READY)
    took_s = after.since_s - before.since_s
    match (before.phase, after.phase):
        case (_, Phase.READY):
            return replace(event, took_s=took_s)
        case (Phase.DRAINING, Phase.STOPPED):
            return replace(event, kind=EventKind.REPLICA_DRAINED, took_s=took_s)
        case (_, Phase.BACKOFF | Phase.CRASH_LOOP):
            kind = EventKind.REPLICA_HUNG if after.given_up else EventKind.REPLICA_CRASHED
            return replace(event, kind=kind, reason=after.last_error, retry_s=after.delay_s)
        case (Phase.BACKOFF | Phase.CRASH_LOOP, Phase.STARTING):
            return replace(event, kind=EventKind.REPLICA_RESTARTED, retry_s=after.delay_s)
    return None

"""What an operator's settings mean for the fleet."""

from collections.abc import Iterable, Sequence

import structlog
from pydantic import ValidationError

from pileus.config.settings import Deployment as Wanted
from pileus.core.errors import InvalidRequest
from pileus.scheduling.scaling import Policy
from pileus.store.tables import StoredDeployment

MOST_REPLICAS = 64

log = structlog.get_logger(__name__)


def policy_of(wanted: Wanted) -> Policy | None:
    """How it scales by itself; None where its bounds leave nothing to decide. One without replicas sleeps until
    somebody asks, so it has one at most."""
    least = wanted.replicas if wanted.min_replicas is None else wanted.min_replicas
    most = max(1, wanted.replicas if wanted.max_replicas is None else wanted.max_replicas)
    if least == most:
        return None
    return Policy(
        min_replicas=least,
        max_replicas=most,
        idle_s=wanted.idle_s,
        target_queue_s=wanted.target_queue_s,
        target_ttft_s=wanted.target_ttft_s,
    )


def rescaled(wanted: Wanted, replicas: int, least: int | None, most: int | None) -> Wanted:
    """With so many replicas, and scaling by itself only between the bounds that are given. Raises `InvalidRequest`."""
    if not 0 <= replicas <= MOST_REPLICAS:
        raise InvalidRequest(f"`replicas` should be from 0 to {MOST_REPLICAS}", param="replicas")
    changes = {"replicas": replicas, "min_replicas": least, "max_replicas": most}
    try:
        return Wanted.model_validate({**wanted.model_dump(), **changes})
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        field = str(problem["loc"][-1]) if problem["loc"] else "replicas"
        raise InvalidRequest(f"`{field}` {problem['msg']}", param=field) from None


def revived(settled: Iterable[Wanted], rows: Iterable[StoredDeployment]) -> Sequence[Wanted]:
    """What was deployed at run time and starts again: all but what the settings name, and what is not valid any
    more."""
    taken = {name for wanted in settled for name in (wanted.name, *wanted.aliases)}
    found: list[Wanted] = []
    for row in rows:
        try:
            wanted = Wanted.model_validate_json(row.body)
        except ValidationError as error:
            log.error("stored_deployment_invalid", deployment=row.name, error=str(error))
            continue
        if clash := taken.intersection((wanted.name, *wanted.aliases)):
            log.warning("stored_deployment_overruled", deployment=row.name, names=sorted(clash), by="the settings")
            continue
        taken.update((wanted.name, *wanted.aliases))
        found.append(wanted)
    return found

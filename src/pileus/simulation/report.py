"""What a run comes to: did people get what they were promised, at what cost, and who got how much."""

from collections.abc import Mapping

import numpy as np
from msgspec import Struct

from pileus.scheduling.fairness import EVERYONE, Share
from pileus.simulation.outcomes import Bools, Floats, Outcomes
from pileus.simulation.request import Ending

_MOST_TENANTS = 50  # that are told of one by one


class Targets(Struct, frozen=True):
    """The service level: a request meets it by being answered within both."""

    ttft_s: float = 1.0
    itl_s: float = 0.2  # mean over an answer


class Spread(Struct, frozen=True):
    """Of one figure over all answers; zeros where there are none."""

    mean: float = 0.0
    p50: float = 0.0
    p90: float = 0.0
    p99: float = 0.0


class TenantReport(Struct, frozen=True, kw_only=True):
    """One tenant's share."""

    tenant: str
    requests: int
    finished: int
    attainment: float
    ttft_s: Spread
    tokens: int  # prompt and answer, of what was finished


class Report(Struct, frozen=True, kw_only=True):
    """One policy's run. Tokens per second are those of answers; `work` counts an answer's token as four."""

    policy: str
    seed: int
    requests: int
    endings: Mapping[str, int]
    duration_s: float  # from the first arrival to the last end
    ttft_s: Spread
    itl_s: Spread
    attainment: float  # share of all requests that met the service level; those that were refused did not
    requests_per_s: float  # finished
    tokens_per_s: float
    goodput_requests_per_s: float  # of those that met the service level
    goodput_tokens_per_s: float
    hit_rate: float  # of prompt tokens, found in a prefix cache
    jain: float  # over the work that tenants were served, by their weights: 1 is equal, 1/n is one of n alone
    replica_s: float  # the cost
    utilisation: float  # share of these in which there was something to do
    preemptions: int
    exchanged: int  # slots that one tenant gave up to another
    resumed: int  # requests that outlived their replica
    tenants: tuple[TenantReport, ...]


def report(outcomes: Outcomes, policy: str, seed: int, targets: Targets, shares: Mapping[str, Share]) -> Report:
    """Judge a run that is over, and had at least one request."""
    finished, good = outcomes.ended(Ending.FINISHED), met(outcomes, targets)
    duration_s = max(1e-9, float(outcomes.end.max() - outcomes.at.min()))
    prompts = outcomes.prompt_tokens[finished].sum()
    return Report(
        policy=policy,
        seed=seed,
        requests=len(outcomes),
        endings={ending.value: int(outcomes.ended(ending).sum()) for ending in Ending},
        duration_s=duration_s,
        ttft_s=spread(outcomes.ttft_s[finished]),
        itl_s=spread(outcomes.itl_s[finished]),
        attainment=float(good.mean()),
        requests_per_s=float(finished.sum()) / duration_s,
        tokens_per_s=float(outcomes.answer_tokens[finished].sum()) / duration_s,
        goodput_requests_per_s=float(good.sum()) / duration_s,
        goodput_tokens_per_s=float(outcomes.answer_tokens[good].sum()) / duration_s,
        hit_rate=float(outcomes.cached_tokens[finished].sum() / max(1, prompts)),
        jain=jain(_served(outcomes, finished, shares)),
        replica_s=outcomes.replica_s,
        utilisation=outcomes.busy_s / max(1e-9, outcomes.replica_s),
        preemptions=outcomes.preemptions,
        exchanged=outcomes.exchanged,
        resumed=outcomes.resumed,
        tenants=tuple(_tenants(outcomes, finished, good)),
    )


def met(outcomes: Outcomes, targets: Targets) -> Bools:
    """Which requests were answered within both targets."""
    in_time = (outcomes.ttft_s <= targets.ttft_s) & (outcomes.itl_s <= targets.itl_s)
    return np.asarray(outcomes.ended(Ending.FINISHED) & in_time)


def spread(values: Floats) -> Spread:
    if not len(values):
        return Spread()
    p50, p90, p99 = np.percentile(values, (50, 90, 99))
    return Spread(float(values.mean()), float(p50), float(p90), float(p99))


def jain(served: Floats) -> float:
    """Jain's index of fairness (Jain, Chiu, Hawe: DEC TR-301, 1984); 1 where nobody got anything."""
    squares = len(served) * float((served * served).sum())
    return float(served.sum()) ** 2 / squares if squares else 1.0


def _served(outcomes: Outcomes, finished: Bools, shares: Mapping[str, Share]) -> Floats:
    """Work that was finished, by tenant, over the tenant's weight."""
    work = np.bincount(outcomes.tenant[finished], outcomes.work[finished], minlength=len(outcomes.tenants))
    weights = np.array([shares.get(tenant, EVERYONE).weight for tenant in outcomes.tenants])
    return np.asarray(work / weights, dtype=np.float64)


def _tenants(outcomes: Outcomes, finished: Bools, good: Bools) -> list[TenantReport]:
    """Those with the most requests, most first."""
    counts = np.bincount(outcomes.tenant, minlength=len(outcomes.tenants))
    tokens = outcomes.prompt_tokens + outcomes.answer_tokens
    told = []
    for place in np.argsort(-counts, kind="stable")[:_MOST_TENANTS]:
        own = outcomes.tenant == place
        told.append(
            TenantReport(
                tenant=outcomes.tenants[place],
                requests=int(own.sum()),
                finished=int((own & finished).sum()),
                attainment=float((own & good).sum() / own.sum()),
                ttft_s=spread(outcomes.ttft_s[own & finished]),
                tokens=int(tokens[own & finished].sum()),
            )
        )
    return told

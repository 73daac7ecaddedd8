"""One trace and one cluster under several policies, side by side."""

from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct

from pileus.scheduling.routing import RoutingPolicy
from pileus.simulation.outcomes import Outcomes
from pileus.simulation.report import Report, Targets, report
from pileus.simulation.request import Request
from pileus.simulation.run import Cluster, Kill, Simulation
from pileus.simulation.traces import TraceRequest
from pileus.simulation.workload import Shape, Workload

__all__ = ["Cluster", "Kill", "Result", "Scenario", "Shape", "Targets", "compare"]

Progress = Callable[[str, int, int], None]  # what is done, how much of it, of how much
_EVERY = 500  # requests between two words about the progress


class Scenario(Struct, frozen=True, kw_only=True):
    """Everything that a result depends on."""

    trace: Sequence[TraceRequest]  # in order of arrival, at least one
    cluster: Cluster
    shape: Shape = Shape()
    kills: tuple[Kill, ...] = ()
    targets: Targets = Targets()
    seed: int = 0


class Result(Struct, frozen=True):
    """One policy's run, and what it comes to."""

    outcomes: Outcomes
    report: Report


def compare(scenario: Scenario, policies: Sequence[RoutingPolicy], progress: Progress) -> dict[str, Result]:
    """The same requests under each policy, by its name."""
    workload = Workload(scenario.trace, scenario.shape, scenario.seed)
    results = {}
    for policy in policies:
        simulation = Simulation(scenario.cluster, policy, scenario.seed, scenario.kills)
        outcomes = simulation.run(_told(workload, f"simulating {policy}", progress))
        judged = report(outcomes, policy.value, scenario.seed, scenario.targets, scenario.cluster.shares)
        results[policy.value] = Result(outcomes, judged)
    return results


def _told(workload: Workload, stage: str, progress: Progress) -> Iterator[Request]:
    """The requests, and how far they have come in time."""
    total = len(workload)
    for number, request in enumerate(workload):
        if number % _EVERY == 0:
            progress(stage, round(total * request.at / workload.duration_s), total)
        yield request
    progress(stage, total, total)

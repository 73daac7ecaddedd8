"""Prompts that begin alike: who finds the replica that has computed the beginning, and what it costs to look for it.

Real servers and real HTTP on the fake engine, whose prefill takes time for each token that its prefix cache has not:
what is measured is where requests go, and not kernels.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from msgspec.structs import replace

from benchmarks import decisions
from benchmarks.answers import BadAnswer, Timeline
from benchmarks.conversations import Turn, conversations
from benchmarks.engines import Setting
from benchmarks.figures import Figures, percentile
from benchmarks.fleets import DEPLOYMENT, OURS, Fleet, Opening, openings
from benchmarks.gateways import OTHER_CORES
from benchmarks.open_loop import Arrival, send_openly
from benchmarks.peers import PeerUnavailable
from benchmarks.processes import Family, StartError, on_cores
from benchmarks.run import Run

SUITE = "prefix"
SHARED, UNSHARED = "prefix-mooncake", "prefix-unshared"
DECIDED = {"prefix-decision-2k": 2048, "prefix-decision-8k": 8192}
WORKLOADS = {
    SHARED: "Mooncake's conversations",
    UNSHARED: "the same arrivals and lengths, but nothing is shared",
    **{name: f"a decision among 1,000 replicas, prompts of {tokens:,} tokens" for name, tokens in DECIDED.items()},
}


async def measure(run: Run, setting: Setting, chosen: Sequence[str], trace: Path, duration_s: float) -> None:
    """In each round every fleet has its turn, fresh from the start, so that no cache knows anything."""
    run.results.titles |= {name: title for name, title in WORKLOADS.items() if name in chosen}
    loads = _loads(run, chosen, trace)
    fleets = openings() if loads else {}
    with run.progress("prefix", run.rounds * len(loads) * len(fleets)) as step:
        for number in range(1, run.rounds + 1):
            _decide(run, [name for name in DECIDED if name in chosen], number)
            for load in loads:
                turns = conversations(trace, number, duration_s, shared=load == SHARED)
                for name, opening in list(fleets.items()):
                    step(f"{WORKLOADS[load]}, round {number}: {name}")
                    if not await _turn(run, setting, opening, name, load, number, turns):
                        del fleets[name]


def _loads(run: Run, chosen: Sequence[str], trace: Path) -> list[str]:
    """Those that can be sent."""
    loads = [name for name in (SHARED, UNSHARED) if name in chosen]
    if loads and not trace.exists():
        run.miss("everybody", SHARED, f"Mooncake's conversation trace is not at {trace}: see --mooncake")
        return []
    return loads


def _decide(run: Run, chosen: Sequence[str], number: int) -> None:
    for name in chosen:
        with on_cores(OTHER_CORES):
            run.keep(SUITE, name, OURS, number, decisions.cost(DECIDED[name], number))


async def _turn(
    run: Run, setting: Setting, opening: Opening, name: str, load: str, number: int, turns: Sequence[Turn]
) -> bool:
    """One fleet's; false where it gives no figure, and is not tried again."""
    with ExitStack() as stack:
        family = stack.enter_context(Family())
        try:
            fleet = await opening(replace(setting, family=family))
            if all(target.name != name for target in run.results.targets):
                run.take_part(fleet.target)
            with on_cores(OTHER_CORES):
                run.keep(SUITE, load, name, number, await _send(fleet, turns))
        except (PeerUnavailable, StartError, BadAnswer, OSError, TimeoutError) as error:
            run.miss(name, load, str(error) or type(error).__name__)
            return False
    return True


async def _send(fleet: Fleet, turns: Sequence[Turn]) -> Figures:
    arrivals = [Arrival(turn.at_s, "", _request(fleet, turn), turn.answer_tokens) for turn in turns]
    answers = (await send_openly(fleet.endpoint, arrivals, 0)).answers
    return figures([one.answer for one in answers if isinstance(one.answer, Timeline)], len(answers))


def figures(lines: Sequence[Timeline], sent: int) -> Figures:
    """Of those that were answered; hit_percent is of prompt tokens, as the engines tell it in `usage`."""
    first = [1e3 * (line.pieces_s[0] - line.sent_s) for line in lines]
    return {
        "ttft_p50_ms": percentile(first, 50),
        "ttft_p90_ms": percentile(first, 90),
        "ttft_p99_ms": percentile(first, 99),
        "hit_percent": 100 * sum(line.cached_tokens for line in lines) / sum(line.prompt_tokens for line in lines),
        "answered_percent": 100 * len(lines) / sent,
    }


def _request(fleet: Fleet, turn: Turn) -> bytes:
    return fleet.endpoint.request(
        {
            "model": DEPLOYMENT,
            "prompt": turn.prompt,
            "max_tokens": turn.answer_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    )

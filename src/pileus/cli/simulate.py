"""`pileus simulate`: what would happen, under which policy, if."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from pileus.cli import output
from pileus.cli.config import load
from pileus.cli.options import Config, Data, Json
from pileus.cli.progress import Bars

if TYPE_CHECKING:
    from pileus.scheduling.bounds import Bounds
    from pileus.scheduling.routing import RoutingPolicy
    from pileus.simulation.calibration import Calibration
    from pileus.simulation.report import Report
    from pileus.simulation.scenario import Cluster

T = TypeVar("T")
_PATIENCE_S = 2.0  # no bar for what is done sooner
_TRAFFIC, _PLAN, _CLUSTER = "The traffic", "What happens", "The cluster"

Trace = Annotated[Path, typer.Option(help="Azure CSV, Mooncake JSONL, or exported usage records.")]
Format = Annotated[str | None, typer.Option("--format", help="azure, mooncake, usage; else told from the first line.")]
Policy = Annotated[
    str, typer.Option("--policy", "-p", help="Of cost (which serves), least_loaded, prefix, round_robin.")
]
Ttft = Annotated[float, typer.Option(min=0, help="Target: seconds to the first token.")]
Itl = Annotated[float, typer.Option(min=0, help="Target: mean seconds between two tokens.")]
Seed = Annotated[int, typer.Option(help="Of all chance: equal seeds give equal results.")]
Plot = Annotated[Path | None, typer.Option(help="Draw the runs into this SVG file.")]

Replicas = Annotated[int, typer.Option("--replicas", "-r", min=1, help="How many.", rich_help_panel=_CLUSTER)]
Engine = Annotated[
    Path | None,
    typer.Option(help="`pileus calibrate` writes it; else a small model's figures.", rich_help_panel=_CLUSTER),
]
Shares = Annotated[
    list[str] | None,
    typer.Option("--share", help="NAME=WEIGHT[:TOKENS_PER_S]: a tenant's right.", rich_help_panel=_CLUSTER),
]

Requests = Annotated[
    int | None, typer.Option(min=1, help="Cut or repeat the trace to so many.", rich_help_panel=_TRAFFIC)
]
Rate = Annotated[float, typer.Option(min=1e-9, help="So many times as fast.", rich_help_panel=_TRAFFIC)]
Length = Annotated[float, typer.Option(min=1e-9, help="So many times as long.", rich_help_panel=_TRAFFIC)]
Tenants = Annotated[int, typer.Option(min=0, help="Spread over so many tenants.", rich_help_panel=_TRAFFIC)]
Batch = Annotated[float, typer.Option(min=0, max=1, help="Share in the batch lane.", rich_help_panel=_TRAFFIC)]
MaxTokens = Annotated[
    int | None, typer.Option(min=1, help="What callers allow; else an answer's own length.", rich_help_panel=_TRAFFIC)
]

Loads = Annotated[
    list[str] | None, typer.Option("--load", help="2x or 2x@60: twice the rate from then on.", rich_help_panel=_PLAN)
]
Kills = Annotated[
    list[str] | None,
    typer.Option("--kill", help="2@300 or 2@300+60: two replicas die, and are back later.", rich_help_panel=_PLAN),
]
Added = Annotated[
    list[str] | None,
    typer.Option("--add-tenant", help="NAME:RATE[:LANE]: one more, at so many requests/s.", rich_help_panel=_PLAN),
]


def simulate(
    trace: Trace,
    trace_format: Format = None,
    policy: Policy = "cost",
    ttft: Ttft = 1.0,
    itl: Itl = 0.2,
    seed: Seed = 0,
    plot: Plot = None,
    replicas: Replicas = 4,
    engine: Engine = None,
    shares: Shares = None,
    requests: Requests = None,
    rate_scale: Rate = 1.0,
    length_scale: Length = 1.0,
    tenants: Tenants = 0,
    batch: Batch = 0.0,
    max_tokens: MaxTokens = None,
    loads: Loads = None,
    kills: Kills = None,
    added: Added = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Let the code that serves meet a trace of requests, in virtual time and with a model of the engine.

    Example: `pileus simulate --trace trace.jsonl --policy cost,least_loaded --replicas 8`

    Traffic doubles after a minute, then two replicas die:
    `pileus simulate --trace trace.jsonl --load 2x@60 --kill 2@90`
    """
    from pileus.simulation import plans, scenario, traces

    policies = _policies(policy)
    shape = scenario.Shape(
        requests=requests,
        rate_scale=rate_scale,
        length_scale=length_scale,
        tenants=tenants,
        batch_share=batch,
        max_answer_tokens=max_tokens,
        surges=_read("--load", plans.surge, loads),
        added=_read("--add-tenant", plans.added_tenant, added),
    )
    kind = None if trace_format is None else _read("--format", traces.TraceFormat, [trace_format])[0]
    asked = scenario.Scenario(
        trace=traces.load(trace, kind),
        shape=shape,
        cluster=_cluster(replicas, engine, config, shares),
        kills=_read("--kill", plans.kill, kills),
        targets=scenario.Targets(ttft, itl),
        seed=seed,
    )
    with Bars(counts=True, patience_s=_PATIENCE_S) as bars:
        results = scenario.compare(asked, policies, bars)
    _show([result.report for result in results.values()], json=json)
    if plot is not None:
        from pileus.simulation.plot import svg

        plot.write_text(svg({name: result.outcomes for name, result in results.items()}, asked.targets))


def calibrate(
    deployment: Annotated[str, typer.Argument(help="Name of the deployment, as in the settings.")],
    out: Annotated[Path, typer.Argument(help="File for `pileus simulate --engine`.")],
    config: Config = None,
    data: Data = None,
) -> None:
    """Measure a deployment's engine here, so that the simulator can stand in for it. Nothing else should run meanwhile.

    Example: `pileus calibrate smollm2-135m engine.json`
    """
    from pileus.bootstrap import calibration
    from pileus.simulation.calibration import save

    if not out.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {out.parent}", param_hint="OUT")
    with Bars(counts=True) as bars:
        measured = calibration.calibrate(load(config, {"data_dir": data}), deployment, bars)
    save(measured, out)
    output.line(f"{out} is written: {measured.source}")


def _policies(text: str) -> "list[RoutingPolicy]":
    from pileus.scheduling.routing import RoutingPolicy

    def policy(name: str) -> RoutingPolicy:
        if name not in tuple(RoutingPolicy):
            raise ValueError(f"{name!r} is none; there are {', '.join(RoutingPolicy)}")
        return RoutingPolicy(name)

    return list(dict.fromkeys(_read("--policy", policy, text.split(","))))


def _read(option: str, read: Callable[[str], T], texts: Iterable[str] | None) -> tuple[T, ...]:
    """What people wrote, or the option's name and what is wrong with it."""
    try:
        return tuple(read(text) for text in texts or ())
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


def _cluster(replicas: int, engine: Path | None, config: Path | None, shares: list[str] | None) -> "Cluster":
    from pileus.simulation import plans, scenario

    rights = dict(_read("--share", plans.share, shares))
    return scenario.Cluster(replicas=replicas, engine=_engine(engine), bounds=_bounds(config), shares=rights)


def _engine(path: Path | None) -> "Calibration":
    from pileus.simulation import calibration

    return calibration.Calibration() if path is None else calibration.load(path)


def _bounds(config: Path | None) -> "Bounds":
    from pileus.scheduling.bounds import Bounds

    queue = load(config).settings.queue
    return Bounds(queue.max_requests, queue.max_tokens, queue.max_wait_s, queue.max_foreseen_s)


def _show(reports: "list[Report]", *, json: bool) -> None:
    if json:
        from msgspec import to_builtins

        output.json(to_builtins(reports))
        return
    output.table(
        ("POLICY", "FINISHED", "TTFT P50", "P90", "P99", "ITL P50", "P99", "SLO", "GOODPUT", "HITS", "JAIN", "BUSY"),
        (_row(report) for report in reports),
    )
    output.line()
    for report in reports:
        unhappy = ", ".join(f"{count:,} {ending}" for ending, count in report.endings.items() if count)
        output.line(
            f"{report.policy}: {report.requests:,} requests in {output.duration(report.duration_s)}: {unhappy}; "
            f"{report.tokens_per_s:,.0f} tokens/s, {report.replica_s:,.0f} replica-seconds, "
            f"{report.preemptions:,} preempted, {report.exchanged:,} slots exchanged, {report.resumed:,} resumed"
        )


def _row(report: "Report") -> tuple[str, ...]:
    ttft, itl = report.ttft_s, report.itl_s
    return (
        report.policy,
        f"{report.endings['finished'] / report.requests:.1%}",
        *(_milliseconds(value) for value in (ttft.p50, ttft.p90, ttft.p99, itl.p50, itl.p99)),
        f"{report.attainment:.1%}",
        f"{report.goodput_tokens_per_s:,.0f}/s",
        f"{report.hit_rate:.1%}",
        f"{report.jain:.3f}",
        f"{report.utilisation:.0%}",
    )


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:,.0f} ms"

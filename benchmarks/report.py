"""The record as Markdown."""

from collections.abc import Sequence
from pathlib import Path
from string import Template

from benchmarks.agreement import agreement
from benchmarks.goals import GOALS, Goal
from benchmarks.results import Results
from benchmarks.suites.simulator import COMPARED
from benchmarks.summary import NoFigure, Spread, by_round, of, ratio, targets_of, workloads_of

_PAGE = Path(__file__).with_name("page.md")

_ENGINE_FIGURES = {"tokens_per_s": "tokens/s", "ttft_ms": "TTFT ms", "itl_ms": "ITL ms", "stall_ms": "longest stall ms"}
_GATEWAY_FIGURES = {
    "requests_per_s": "requests/s",
    "tokens_per_s": "tokens/s",
    "events_per_s": "events/s",
    "latency_p50_ms": "latency p50 ms",
    "added_p50_ms": "added p50 ms",
    "ttft_ms": "TTFT ms",
    "itl_ms": "ITL ms",
    "open": "open at once",
    "cpu_ms_per_request": "CPU ms/request",
    "rss_mib": "memory MiB",
}

_ACCESS_FIGURES = {
    "tokens_per_s": "tokens/s",
    "requests": "requests",
    "goodput_percent": "goodput % of peak",
    "jain": "Jain's index",
    "met_percent": "reservation met %",
    "batch_tokens_per_s": "batch tokens/s",
    "ttft_p50_ms": "TTFT p50 ms",
    "ttft_p99_ms": "TTFT p99 ms",
    "latency_p99_ms": "latency p99 ms",
    "admitted_percent": "admitted %",
    "refusal_p99_ms": "refusal p99 ms",
    "hinted_percent": "with Retry-After %",
    "answered_percent": "answered %",
    "retried_percent": "retried %",
    "late_p99_ms": "sent late p99 ms",
    "client_cpu_percent": "client CPU %",
}
_PREFIX_FIGURES = {
    "ttft_p50_ms": "TTFT p50 ms",
    "ttft_p90_ms": "TTFT p90 ms",
    "ttft_p99_ms": "TTFT p99 ms",
    "hit_percent": "hits %",
    "answered_percent": "answered %",
    "decision_mean_us": "mean us",
    "decision_p50_us": "p50 us",
    "decision_p99_us": "p99 us",
}


_SIMULATOR_FIGURES = {
    "ttft_p50_ms": "TTFT p50 ms",
    "ttft_p90_ms": "TTFT p90 ms",
    "tokens_per_s": "tokens/s",
    "itl_p50_ms": "ITL p50 ms",
}


_SPREAD_FIGURES = {
    "requests_per_s": "requests/s",
    "events_per_s": "events/s",
    "jain": "Jain's index",
    "client_cpu_percent": "client CPU %",
}
_BATCH_FIGURES = {"tokens_per_s": "tokens/s", "lines_per_s": "lines/s"}
_COMPRESSION_FIGURES = {
    "size_mb": "MB",
    "perplexity": "perplexity",
    "perplexity_ratio": "to the parent's",
    "perplexity_ratio_high": "at most (95%)",
    "task_percent": "task %",
    "tokens_per_s_1": "tokens/s at 1",
    "tokens_per_s_32": "tokens/s at 32",
    "memory_mb": "memory MB",
}
_TRAINING_FIGURES = {"tokens_per_s": "tokens/s", "final_loss": "last loss told"}
_ENCODERS_FIGURES = {
    "texts_per_s": "texts/s",
    "off_mean": "1 - cosine, mean",
    "off_most": "1 - cosine, most",
}
_ADAPTERS_FIGURES = {"tokens_per_s": "tokens/s", "ratio": "to the base"}
_DATA_FIGURES = {
    "mb_per_s": "MB/s",
    "documents": "documents",
    "kept_percent": "kept %",
    "exact_duplicates": "equal ones",
    "input_mb": "MB of input",
    "processes": "processes",
    "clean_mb_per_s": "MB/s, cleaned and signed",
    "duplicates_s": "finding duplicates s",
    "peak_mib": "memory MiB",
    "pairs": "pairs",
    "similar_pairs": "of 0.8 and more",
    "recall_percent": "found %",
    "recall_at_percent": "found % of 0.80 to 0.85",
    "precision_percent": "rightly %",
}
_SOAK_FIGURES = {
    "requests": "requests",
    "requests_per_s": "requests/s",
    "rss_before_mib": "MiB before",
    "rss_after_mib": "MiB after",
    "growth_percent": "grown %",
    "errored": "failed",
    "missing_endings": "without one ending",
    "misbilled_tokens": "tokens billed wrongly",
    "left_running": "left running",
}


def page(results: Results) -> str:
    """docs/benchmarks.md."""
    machine = results.machine
    return Template(_PAGE.read_text()).substitute(
        date=results.date,
        commit=results.commit,
        command=results.command,
        processor=machine.processor,
        cores=machine.cores,
        memory=f"{machine.memory_gib:g}",
        system=machine.system,
        instructions=", ".join(machine.instructions) or "none of interest",
        goals=goals(results),
        targets=targets(results),
        engines=engines(results),
        gateway=_by_workload(results, "gateway", _GATEWAY_FIGURES),
        access=access(results),
        simulator=simulator(results),
        prefix=_by_workload(results, "prefix", _PREFIX_FIGURES),
        spread=_by_workload(results, "spread", _SPREAD_FIGURES),
        batch=_by_workload(results, "batch", _BATCH_FIGURES),
        compression=_by_workload(results, "compression", _COMPRESSION_FIGURES),
        training=_by_workload(results, "training", _TRAINING_FIGURES),
        encoders=_by_workload(results, "encoders", _ENCODERS_FIGURES),
        adapters=_by_workload(results, "adapters", _ADAPTERS_FIGURES),
        data=_by_workload(results, "data", _DATA_FIGURES),
        soak=_by_workload(results, "soak", _SOAK_FIGURES),
        missing=missing(results),
    )


def goals(results: Results) -> str:
    """What was promised beside what was measured, also where it disappoints."""
    rows = [_goal(results, goal) for goal in GOALS]
    return table(("promise", "asked", "measured: median (least to most)", "rounds", ""), rows)


def targets(results: Results) -> str:
    rows = [(each.title, each.version or "-", each.precision, each.settings) for each in results.targets]
    return table(("what", "version", "precision", "settings"), rows)


def engines(results: Results) -> str:
    """One table per workload; ratios are of tokens per second, round by round, ours to theirs."""
    parts = []
    for workload in workloads_of(results, "engines"):
        rows = []
        for name in targets_of(results, "engines"):
            cells = [_cell(results, workload, name, figure) for figure in _ENGINE_FIGURES]
            rows.append((_title(results, name), *cells, _ratio(results, workload, name)))
        head = ("", *_ENGINE_FIGURES.values(), "Pileus to it")
        parts.append(f"### {results.titles[workload]}\n\n{table(head, rows)}")
    return "\n\n".join(parts) or "Not measured in this run."


def _by_workload(results: Results, suite: str, titles: dict[str, str]) -> str:
    """One table per workload, with those figures that anybody gave."""
    parts = []
    for workload in workloads_of(results, suite):
        names = targets_of(results, suite)
        shown = [figure for figure in titles if any(by_round(results, workload, n, figure) for n in names)]
        rows = [
            (_title(results, name), *(_cell(results, workload, name, figure) for figure in shown))
            for name in names
            if any(by_round(results, workload, name, figure) for figure in shown)
        ]
        parts.append(f"### {results.titles[workload]}\n\n{table(('', *(titles[figure] for figure in shown)), rows)}")
    return "\n\n".join(parts) or "Not measured in this run."


def access(results: Results) -> str:
    """One table: who got what, and how long it took."""
    names = workloads_of(results, "access")
    figures = [f for f in _ACCESS_FIGURES if any(by_round(results, n, "pileus-access", f) for n in names)]
    rows = [
        (results.titles[name], *(_cell(results, name, "pileus-access", figure) for figure in figures)) for name in names
    ]
    return table(("", *(_ACCESS_FIGURES[f] for f in figures)), rows) if rows else "Not measured in this run."


def simulator(results: Results) -> str:
    """Reality beside what the simulator says of the same arrivals. Some figures are shown, and promised nothing of."""
    rows = []
    for workload in workloads_of(results, "simulator"):
        for figure, title in _SIMULATOR_FIGURES.items():
            told = agreement(results, workload, figure)
            promised = figure in COMPARED
            verdict = ("within" if told.holds else "**not within**") if promised else ""
            rows.append(
                (
                    results.titles[workload],
                    title,
                    shown(told.real),
                    shown(told.simulated),
                    f"{shown(told.ratio)} x",
                    f"{told.allowed:.0%}" if promised else "",
                    verdict,
                )
            )
    head = ("", "", "real", "simulated", "simulated to real", "may be off by", "")
    return table(head, rows) if rows else "Not measured in this run."


def missing(results: Results) -> str:
    lines = [f"- {one.target}, {one.workload}: {one.why}" for one in results.missing]
    return "\n".join(lines) or "Nothing: every target gave every figure."


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A Markdown table; the first column is text, the others are figures or text."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def number(value: float) -> str:
    """Three digits of meaning, and no more."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if 0 < abs(value) < 0.01:
        return f"{value:.1e}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def shown(value: Spread) -> str:
    alone = number(value.median)
    return alone if value.rounds == 1 else f"{alone} ({number(value.low)} to {number(value.high)})"


def _goal(results: Results, goal: Goal) -> tuple[str, ...]:
    try:
        value = goal.read(results)
    except NoFigure:
        return goal.promise, goal.asked, "not measured", "", ""
    return goal.promise, goal.asked, shown(value), str(value.rounds), "met" if goal.met(value.median) else "**not met**"


def _cell(results: Results, workload: str, target: str, figure: str) -> str:
    try:
        return shown(of(results, workload, target, figure))
    except NoFigure:
        return "-"


def _ratio(results: Results, workload: str, target: str) -> str:
    if target == "pileus":
        return ""
    try:
        ours, theirs = (by_round(results, workload, name, "tokens_per_s") for name in ("pileus", target))
        return f"{shown(ratio(ours, theirs))} x"
    except NoFigure:
        return "-"


def _title(results: Results, name: str) -> str:
    return next(target.title for target in results.targets if target.name == name)

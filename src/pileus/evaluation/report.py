"""An evaluation, and a verdict, as people read them: Markdown."""

from collections.abc import Iterable, Sequence

from pileus.evaluation.records import Evaluated, EvaluationResult, GateResult, Margins
from pileus.evaluation.statistics import Interval


def evaluation_markdown(result: EvaluationResult) -> str:
    """Every figure of it."""
    models = [result.of, *([result.against] if result.against else [])]
    parts = [f"# Evaluation of {' against '.join(each.model for each in models)}", ""]
    for each in models:
        parts += _model(each)
    if result.compared:
        parts += ["## Compared", "", f"{models[0].model} less {models[1].model}, on the same items.", ""]
        rows = [
            (
                each.task,
                each.metric,
                _signed(each.difference),
                f"{each.permutation_p:.3g}",
                "" if each.mcnemar_p is None else f"{each.mcnemar_p:.3g}",
            )
            for each in result.compared
        ]
        parts += _table(("task", "metric", "difference (95%)", "permutation p", "McNemar p"), rows)
    return "\n".join(parts)


def gate_markdown(result: GateResult) -> str:
    """The verdict and its evidence."""
    head = [
        f"# Gate: {result.candidate} {'passes' if result.passed else 'is refused'}",
        "",
        f"Parent: {result.parent}.{_margins(result.margins)}",
        f"Manifest: `sha256:{result.sha256}`.",
        "",
    ]
    rows = [(each.check, "passed" if each.passed else "**refused**", each.says) for each in result.findings]
    return "\n".join([*head, *_table(("check", "", "evidence"), rows)])


def _margins(margins: Margins | None) -> str:
    return f" Margins: perplexity {margins.perplexity:g}, scores {margins.score:g}." if margins else ""


def _model(found: Evaluated) -> list[str]:
    parts = [f"## {found.model}", "", f"Artefact: {found.artefact} (`sha256:{found.sha256[:16]}`).", ""]
    if found.scores:
        rows: list[tuple[object, ...]] = [
            (each.task, each.metric, _shown(each.score), each.items, each.failed) for each in found.scores
        ]
        parts += _table(("task", "metric", "score (95%)", "items", "failed"), rows)
    if found.paces:
        rows = [
            (
                each.task,
                "-" if each.ttft_p50_s is None else f"{each.ttft_p50_s:.3g} / {each.ttft_p95_s or 0:.3g}",
                f"{each.total_p50_s:.3g} / {each.total_p95_s:.3g}",
                f"{each.tokens_per_s:.4g}",
            )
            for each in found.paces
        ]
        parts += _table(("task", "first token, s (p50 / p95)", "whole answer, s (p50 / p95)", "tokens/s"), rows)
    if found.perplexities:
        rows = [(e.text, e.tokens, _shown(e.perplexity), f"{e.bits_per_byte:.4g}") for e in found.perplexities]
        parts += _table(("text", "tokens", "perplexity (95%)", "bits per byte"), rows)
    return parts


def _shown(figure: Interval) -> str:
    return f"{figure.value:.4g} ({figure.low:.4g} to {figure.high:.4g})"


def _signed(figure: Interval) -> str:
    return f"{figure.value:+.4g} ({figure.low:+.4g} to {figure.high:+.4g})"


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    lines = [f"| {' | '.join(columns)} |", f"|{'|'.join(' --- ' for _ in columns)}|"]
    lines += [f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return [*lines, ""]

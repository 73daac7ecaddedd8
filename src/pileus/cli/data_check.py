"""`pileus data check`: whether a file of examples is in order, before it is stored or learnt from."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pileus.cli import output
from pileus.cli.config import load
from pileus.cli.options import Config, Data, Json
from pileus.cli.progress import Bars
from pileus.core.errors import OperatorError

if TYPE_CHECKING:
    from pileus.training.finetune.check import Report

_PIECE_BYTES = 1 << 20
_METHODS = ("supervised", "dpo")


def check(
    file: Annotated[Path, typer.Argument(help="JSONL, as /v1/fine_tuning/jobs takes it.")],
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Also count tokens, as this model of the catalogue has them.")
    ] = None,
    method: Annotated[str, typer.Option(help="What the examples are for: supervised or dpo.")] = "supervised",
    max_length: Annotated[
        int | None, typer.Option(min=16, help="With --model: tokens of an example that are learnt from.")
    ] = None,
    data: Data = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Check every line of a file of examples, and tell what is wrong by its line. Needs no server.

    Example: `pileus data check examples.jsonl`

    Example: `pileus data check pairs.jsonl --method dpo --model smollm2-135m-instruct`
    """
    if method not in _METHODS:
        raise typer.BadParameter(f"{method!r} is not one of {', '.join(_METHODS)}", param_hint="--method")
    if not file.is_file():
        raise OperatorError(f"there is no file {file}")
    report = _report(file, method, model, max_length, data, config)
    if json:
        output.json(_as_json(report))
    else:
        _tell(report)
    if report.errors:
        raise typer.Exit(1)


def _report(
    file: Path, method: str, model: str | None, max_length: int | None, data: Path | None, config: Path | None
) -> "Report":
    from pileus.training.finetune.check import Check
    from pileus.training.finetune.records import Method

    measure = None
    if model is not None:
        from pileus.bootstrap.local import example_measure

        with Bars(patience_s=1.0) as bars:
            measure = example_measure(load(config, {"data_dir": data}).settings, model, max_length, bars)
    check = Check(Method(method), measure)
    with Bars(patience_s=1.0) as bars, file.open("rb") as opened:
        total = file.stat().st_size
        while piece := opened.read(_PIECE_BYTES):
            check.feed(piece)
            bars("checking", opened.tell(), total)
    return check.finish()


def _tell(report: "Report") -> None:
    for finding in report.findings:
        output.line(f"{finding.level}: {finding.text}")
    warnings = len(report.findings) - len(report.errors)
    tokens = f", {report.tokens} tokens, the longest {report.longest}" if report.tokens else ""
    output.line(f"{report.examples} examples in order{tokens}; {len(report.errors)} errors, {warnings} warnings told.")


def _as_json(report: "Report") -> dict[str, object]:
    from msgspec import to_builtins

    found: dict[str, object] = to_builtins(report)
    return found | {"ok": not report.errors}

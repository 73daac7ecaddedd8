"""`pileus demo`: Pileus shows what it can do, on this machine and with nothing that is not here."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from pileus.cli import output
from pileus.cli.config import load
from pileus.cli.options import Config, Json
from pileus.cli.progress import Bars
from pileus.core.errors import OperatorError

if TYPE_CHECKING:
    from pileus.demo.chapter import Chapter

app = typer.Typer(help="See what Pileus can do, on this machine.", no_args_is_help=True)

_DATA: Final = "data"  # the server's folder; one with models in it may be there before
_NEEDED: Final = {
    "torch": "train",
    "peft": "train",
    "nncf": "train",
    "matplotlib": "train",
    "ftfy": "data",
    "openai": "demo",
}


@app.callback()
def _several() -> None:
    """Have `life` be a command of `demo`, though it is the only one."""


@app.command("life")
def life(
    out: Annotated[Path, typer.Option("--output", "-o", help="A new folder: report, plots, data, models.")] = Path(
        "life"
    ),
    quick: Annotated[
        bool, typer.Option("--quick", help="A little of everything, to see that it works; no goal is held.")
    ] = False,
    base: Annotated[str, typer.Option(help="The model that learns from tickets.")] = "smollm2-135m-instruct",
    config: Config = None,
    json: Json = False,
) -> None:
    """A model's whole life in about a quarter of an hour, on two cores: a corpus, a GPT and a BERT from nothing, a
    classifier, two translators, SmolLM2 fine-tuned through OpenAI's client, compressed, judged, released and rolled
    back. With a report of every figure.

    It has a server and a data folder of its own (OUTPUT/data), which `pileus serve --data OUTPUT/data` shows
    afterwards. Ends with status 1 where a goal was missed.

    Example: `pileus demo life`

    Example: `pileus demo life --quick -o /tmp/life`
    """
    from msgspec import to_builtins
    from msgspec.structs import replace

    from pileus.bootstrap.alone import serve_alone
    from pileus.demo.cloud import Cloud
    from pileus.demo.life import live
    from pileus.demo.release import POLICY
    from pileus.demo.report import PAGE
    from pileus.demo.scale import FULL, QUICK

    _demand_extras()
    folder = out.absolute()
    if folder.exists() and any(each.name != _DATA for each in folder.iterdir()):
        raise OperatorError(f"{out} is not empty: name a new folder with --output")
    folder.mkdir(parents=True, exist_ok=True)
    loaded = load(config, {"data_dir": folder / _DATA})
    with (
        Bars(counts=True) as bars,
        serve_alone(loaded, config, bars, role="admin", deploys=False, environment=POLICY) as (url, key),
    ):

        def on_chapter(chapter: "Chapter") -> None:
            bars.finish()
            if not json:
                _tell(chapter)

        with Cloud(url, key, bars) as cloud:
            report = live(cloud, folder, replace(QUICK if quick else FULL, base=base), on_chapter)
        bars.finish()
    if json:
        output.json(to_builtins(report))
    else:
        output.line(f"\n{report.seconds / 60:.1f} minutes. The report: {folder / PAGE}")
    if report.missed:
        raise OperatorError("goals that were missed: " + "; ".join(figure.name for figure in report.missed))


def _demand_extras() -> None:
    missing = sorted({extra for module, extra in _NEEDED.items() if find_spec(module) is None})
    if missing:
        raise OperatorError(
            f"the demonstration needs what is not installed ({', '.join(missing)}): `make extras`, or "
            f"`pip install 'pileus[train,data,eval,demo]'`"
        )


def _tell(chapter: "Chapter") -> None:
    output.line(f"\n{chapter.title} ({chapter.seconds:.0f} s)")
    for figure in chapter.figures:
        goal = f"   (goal: {figure.goal}: {'yes' if figure.holds else 'NO'})" if figure.goal else ""
        output.line(f"  {figure.name}: {figure.shown}{goal}")

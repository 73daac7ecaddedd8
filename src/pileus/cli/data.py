"""`pileus data`: from files to shards that models are trained on, on a running server or by itself.

With a key (`PILEUS_API_KEY`) the running server does it, with paths of its machine. Without one, a server is started
for it, and ended with it. Interrupted, the same command goes on where it was.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from pileus.cli import data_check, output
from pileus.cli.client import Client
from pileus.cli.options import DEFAULT_URL, Alone, Config, Data, Json, Url
from pileus.cli.serving import server
from pileus.cli.watch import begin_job, demand_success, watch_job
from pileus.core.errors import OperatorError

if TYPE_CHECKING:
    from pileus.data.report import Report
    from pileus.data.spec import DataSpec

app = typer.Typer(help="Prepare and check what models learn from.", no_args_is_help=True)
app.command("check")(data_check.check)

_PATHS = ("inputs", "evaluation")


@app.command("prepare")
def prepare(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT...", help="Files, folders, globs: text, JSONL, CSV, Parquet, HTML, WARC; or .gz."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The folder that is made.")] = None,
    recipe: Annotated[
        Path | None,
        typer.Option("--recipe", "-r", help="TOML or JSON with what is said here, and more; options go first."),
    ] = None,
    field: Annotated[str | None, typer.Option(help="That holds the text, in JSONL, CSV and Parquet; text.")] = None,
    documents: Annotated[
        str | None, typer.Option(help="What is a document in plain text: file, paragraph, line; file.")
    ] = None,
    language: Annotated[list[str] | None, typer.Option(help="Keep these (ISO 639-1); else all.")] = None,
    evaluation: Annotated[list[str] | None, typer.Option(help="Leave out what holds texts of these files.")] = None,
    quality: Annotated[bool | None, typer.Option(help="Leave out what breaks the rules of quality.")] = None,
    near: Annotated[bool | None, typer.Option(help="Leave out near duplicates.")] = None,
    personal: Annotated[bool | None, typer.Option(help="Replace personal data.")] = None,
    validation: Annotated[float | None, typer.Option(help="Share of the documents; 0.01.")] = None,
    test: Annotated[float | None, typer.Option(help="Share of the documents; 0.01.")] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="bpe or unigram, to be trained; or a tokenizer.json; bpe.")
    ] = None,
    vocabulary: Annotated[int | None, typer.Option(help="Of a tokenizer that is trained; 16384.")] = None,
    processes: Annotated[int | None, typer.Option(help="At work at the same time; one for each core.")] = None,
    alone: Alone = False,
    url: Url = DEFAULT_URL,
    data: Data = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Clean, deduplicate and tokenise texts into shards. Interrupted, the same command goes on where it was.

    Example: `pileus data prepare corpus/ --out dataset --language en --language zh`

    Example: `pileus data prepare 'crawl/*.warc.gz' pages.jsonl.gz -o dataset --evaluation gsm8k_test.jsonl`
    """
    spec = _spec(
        recipe,
        {
            "inputs": inputs or None,
            "out": None if out is None else str(out),
            "field": field,
            "documents": documents,
            "languages": language,
            "evaluation": evaluation,
            "rules": None if quality is None else {"quality": quality},
            "near": near,
            "personal": personal,
            "validation": validation,
            "test": test,
            "processes": processes,
        },
        _tokenizer(tokenizer, vocabulary),
    )
    with server(url, data, config, alone=alone) as client:
        _have_done(client, spec, json=json)


@app.command("report")
def report(
    folder: Annotated[Path, typer.Argument(help="That `pileus data prepare` made.")],
    json: Json = False,
) -> None:
    """Show what a preparation came to; DIR/report.html shows it with plots.

    Example: `pileus data report dataset`
    """
    _tell(folder, json=json)


def _have_done(client: Client, spec: "DataSpec", *, json: bool) -> None:
    job = begin_job(client, "data", msgspec.to_builtins(spec))
    demand_success(watch_job(client, job["id"], "preparing", pauses=not client.lasts))
    if Path(spec.out).exists():
        _tell(Path(spec.out), json=json)
    else:
        output.note(f"{job['id']} has made {spec.out} on the server's machine.")


def _spec(recipe: Path | None, options: dict[str, Any], tokenizer: dict[str, Any]) -> "DataSpec":
    """The recipe with what the options say. Paths are absolute: the server has another working folder."""
    from pileus.data.spec import read_recipe, spec_of

    values = {} if recipe is None else read_recipe(recipe)
    quality = options.pop("rules")
    values |= {name: value for name, value in options.items() if value is not None}
    if quality is not None:
        values["rules"] = (values.get("rules") or {}) if quality["quality"] else None
    if tokenizer:
        values["tokenizer"] = {**values.get("tokenizer", {}), **tokenizer}
    for name in _PATHS:
        if isinstance(values.get(name), list):
            values[name] = [str(Path(str(path)).absolute()) for path in values[name]]
    for missing, how in (("inputs", "name files or folders"), ("out", "name the folder that is made with --out")):
        if not values.get(missing):
            raise OperatorError(f"{how}, or say `{missing}` in a recipe")
    values["out"] = str(Path(str(values["out"])).absolute())
    return spec_of(values)


def _tokenizer(given: str | None, vocabulary: int | None) -> dict[str, Any]:
    from pileus.data.spec import ALGORITHMS

    wanted: dict[str, Any] = {} if vocabulary is None else {"vocabulary": vocabulary}
    if given in ALGORITHMS:
        wanted["algorithm"] = given
    elif given is not None:
        if not Path(given).is_file():
            raise OperatorError(f"--tokenizer is {' or '.join(ALGORITHMS)} or a file, and there is no file {given}")
        wanted["file"] = str(Path(given).absolute())
    return wanted


def _tell(folder: Path, *, json: bool) -> None:
    from pileus.data.report import read_report

    found = read_report(folder)
    if json:
        output.json({"folder": str(folder), "left_out": found.left_out, **msgspec.to_builtins(found)})
        return
    output.fields(_summary(folder, found))
    output.line()
    output.table(("LEFT OUT", "DOCUMENTS"), [(name.replace("_", " "), count) for name, count in found.left_out.items()])
    output.table(
        ("SPLIT", "DOCUMENTS", "TOKENS", "SHARDS"),
        [(name, split.documents, split.tokens, split.shards) for name, split in found.splits.items()],
    )
    if found.account.bad:
        output.note(f"{found.account.bad} records could not be read; the first of them:")
        for bad in found.account.bad_records[:5]:
            output.note(f"  {bad.place}: {bad.reason}")


def _summary(folder: Path, found: "Report") -> dict[str, object]:
    account = found.account
    return {
        "dataset": found.id,
        "folder": folder,
        "read": f"{account.read} documents in {found.files} files, {output.size(found.input_bytes)}",
        "kept": f"{found.documents} documents",
        "repaired": account.repaired,
        "personal": ", ".join(f"{count} {kind}" for kind, count in account.personal.items()),
        "languages": ", ".join(f"{count} {code}" for code, count in account.languages.items()),
        "vocabulary": found.vocabulary,
        "report": folder / "report.html",
    }

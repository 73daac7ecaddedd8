"""`pileus batch`: many requests as one file, on a running server or by itself.

With a key (`PILEUS_API_KEY`) the running server does it. Without one, a server is started for it, and ended with it.
What was asked before goes on where it was: the file's content says which batch it is.
"""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import file_digest
from json import JSONDecodeError, loads
from pathlib import Path
from typing import Annotated, Any

import typer

from pileus.cli import output
from pileus.cli.answers import save_answers
from pileus.cli.client import Client
from pileus.cli.options import DEFAULT_URL, Alone, Config, Data, Json, Url
from pileus.cli.progress import Bars
from pileus.cli.serving import server
from pileus.cli.tables import batch_lines
from pileus.cli.watch import watch_job
from pileus.core.errors import OperatorError

app = typer.Typer(help="Run many requests as one batch.", no_args_is_help=True)

_MARK = "pileus_sha256"  # of the input, in a batch's metadata
_ERRORS_SHOWN = 10

BatchId = Annotated[str, typer.Argument(help="The batch's id, as `pileus batch list` shows it.")]
Out = Annotated[Path | None, typer.Option("--output", "-o", help="Where answers go; FILE.results.jsonl or .csv.")]


@app.command("run")
def run(
    file: Annotated[Path, typer.Argument(help="JSONL as OpenAI's batches have it; or CSV, with --template.")],
    template: Annotated[
        str | None, typer.Option("--template", "-t", help="The prompt, with {column} of a CSV.")
    ] = None,
    model: Annotated[str, typer.Option("--model", "-m", help="For a CSV: who answers.")] = "default",
    system: Annotated[str | None, typer.Option(help="For a CSV: the system's message.")] = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", help="For a CSV: a field of each request, NAME=VALUE.")
    ] = None,
    out: Out = None,
    window: Annotated[str, typer.Option(help="It must be done within: 30s, 15m, 2h, 24h.")] = "24h",
    anew: Annotated[bool, typer.Option("--anew", help="Also where the same file was run before.")] = False,
    alone: Alone = False,
    url: Url = DEFAULT_URL,
    data: Data = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Run a file of requests and save the answers. Interrupted, the same command goes on where it was.

    Example: `pileus batch run questions.jsonl`

    Example: `pileus batch run reviews.csv -t "Is this review good or bad? {text}" --option max_tokens=5 -o judged.csv`
    """
    body = {"model": model, **dict(map(_option, option or []))}
    with (
        _prepared(file, template, system, body) as prepared,
        server(url, data, config, alone=alone, role="user", names=None) as client,
    ):
        batch = _begin(client, file, prepared, window, anew=anew)
        batch = _watch(client, batch)
        _tell(client, batch, file, out, json=json, as_table=template is not None)


@app.command("list")
def list_batches(
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many, the latest first.")] = 20,
    url: Url = DEFAULT_URL,
    json: Json = False,
) -> None:
    """Show the latest batches of a running server.

    Example: `pileus batch list --limit 5`
    """
    with Client(url) as client:
        found = client.get(f"/v1/batches?limit={limit}")["data"]
    if json:
        output.json(found)
        return
    output.table(
        ("BATCH", "STATUS", "DONE", "FAILED", "LINES", "AGE"),
        [
            (
                batch["id"],
                batch["status"],
                batch["request_counts"]["completed"],
                batch["request_counts"]["failed"],
                batch["request_counts"]["total"],
                output.duration(max(0, time.time() - batch["created_at"])),
            )
            for batch in found
        ],
    )


@app.command("cancel")
def cancel(batch: BatchId, url: Url = DEFAULT_URL, json: Json = False) -> None:
    """End a batch; what is answered by then is kept.

    Example: `pileus batch cancel job_4t0q...`
    """
    with Client(url) as client:
        found = client.post(f"/v1/batches/{batch}/cancel", {})
    if json:
        output.json(found)
    else:
        output.line(f"{batch} is {found['status']}.")


@contextmanager
def _prepared(file: Path, template: str | None, system: str | None, body: dict[str, Any]) -> Iterator[Path]:
    """The file as JSONL."""
    if template is None:
        if file.suffix.lower() in (".csv", ".tsv"):
            raise OperatorError(f"{file} is a table: say with --template what to ask of each row")
        if not file.is_file():
            raise OperatorError(f"there is no file {file}")
        yield file
        return
    with tempfile.TemporaryDirectory(prefix="pileus-") as folder:
        lines = Path(folder) / f"{file.stem}.jsonl"
        with lines.open("w", encoding="utf-8") as written:
            written.writelines(batch_lines(file, template, system, body))
        if not lines.stat().st_size:
            raise OperatorError(f"{file} has no rows")
        yield lines


def _begin(client: Client, file: Path, prepared: Path, window: str, *, anew: bool) -> dict[str, Any]:
    """The batch of this content that runs already or has run, or a new one."""
    with prepared.open("rb") as content:
        mark = file_digest(content, "sha256").hexdigest()
    if not anew and (found := _known(client, mark)) is not None:
        output.note(f"{found['id']} has this file already: it is {found['status']}.")
        return found
    endpoint = _endpoint(prepared)
    with Bars(patience_s=1.0) as bars:
        stored = client.upload(
            prepared, f"{file.stem}.jsonl", "batch", lambda done, total: bars("uploading", done, total)
        )
    wish = {
        "input_file_id": stored["id"],
        "endpoint": endpoint,
        "completion_window": window,
        "metadata": {_MARK: mark, "filename": file.name[:512]},
    }
    batch: dict[str, Any] = client.post("/v1/batches", wish)
    return batch


def _known(client: Client, mark: str) -> dict[str, Any] | None:
    """Of the latest batches, one that has this content and did not fail, expire or be cancelled."""
    for batch in client.get("/v1/batches?limit=100")["data"]:
        is_good = batch["status"] not in ("failed", "expired", "cancelling", "cancelled")
        if is_good and (batch["metadata"] or {}).get(_MARK) == mark:
            return dict(batch)
    return None


def _endpoint(prepared: Path) -> str:
    """What the first line asks; the server checks all of them."""
    with prepared.open(encoding="utf-8-sig") as lines:
        try:
            return str(loads(lines.readline())["url"])
        except (JSONDecodeError, KeyError, TypeError, UnicodeDecodeError):
            raise OperatorError(
                f"{prepared.name}, line 1 is no request: it should be like "
                '{"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {...}}'
            ) from None


def _watch(client: Client, batch: dict[str, Any]) -> dict[str, Any]:
    """The batch when it has ended."""
    watch_job(client, batch["id"], "waiting")
    ended: dict[str, Any] = client.get(f"/v1/batches/{batch['id']}")
    return ended


def _tell(client: Client, batch: dict[str, Any], file: Path, out: Path | None, *, json: bool, as_table: bool) -> None:
    """Save what there is, and say so. Raises where it failed as a whole, or a line did."""
    if batch["status"] == "failed":
        raise OperatorError(_why(batch))
    answers = out or file.with_name(f"{file.stem}.results{'.csv' if as_table else '.jsonl'}")
    errors = answers.with_name(f"{answers.stem}.errors.jsonl")
    for target in (answers, errors):
        target.unlink(missing_ok=True)  # of another run
    if batch["output_file_id"] is not None:
        _save_answers(client, batch["output_file_id"], file if as_table else None, answers)
    if batch["error_file_id"] is not None:
        client.save(f"/v1/files/{batch['error_file_id']}/content", errors)
    if json:
        output.json(batch)
    counts = batch["request_counts"]
    answered = f"{counts['completed']} of {counts['total']} answered"
    saved = [f"{told}: {target}" for told, target in ((answered, answers), (f"{counts['failed']} failed", errors))]
    there = [told for told, target in zip(saved, (answers, errors), strict=True) if target.exists()] or [answered]
    output.note(f"{batch['status']}: {', '.join(there)}")
    if errors.exists() or batch["status"] != "completed":
        raise typer.Exit(1)


def _save_answers(client: Client, file_id: str, table: Path | None, target: Path) -> None:
    """As they are, or as one more column of a table."""
    if table is None:
        client.save(f"/v1/files/{file_id}/content", target)
        return
    with tempfile.TemporaryDirectory(prefix="pileus-") as folder:
        downloaded = Path(folder) / "answers.jsonl"
        client.save(f"/v1/files/{file_id}/content", downloaded)
        save_answers(table, downloaded, target)


def _why(batch: dict[str, Any]) -> str:
    counts = batch["request_counts"]
    problems = (batch["errors"] or {}).get("data") or []
    lines = [f"line {each['line']}: {each['message']}" if each["line"] else each["message"] for each in problems]
    more = [f"... and {len(lines) - _ERRORS_SHOWN} more"] if len(lines) > _ERRORS_SHOWN else []
    if not counts["total"]:
        return "\n".join([f"{batch['id']} failed, and nothing was run:", *lines[:_ERRORS_SHOWN], *more])
    done = counts["completed"] + counts["failed"]
    head = f"{batch['id']} failed after {done} of {counts['total']} lines; `pileus jobs resume {batch['id']}` goes on:"
    return "\n".join([head, *lines[:_ERRORS_SHOWN], *more])


def _option(text: str) -> tuple[str, Any]:
    """`max_tokens=5`; a value that is no JSON is a text."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise typer.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--option")
    try:
        return name, loads(value)
    except JSONDecodeError:
        return name, value

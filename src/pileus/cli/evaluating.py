"""What `pileus eval`, `gate` and `explain` share: a job to watch, and deployments for a while."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import sleep
from typing import Any, NamedTuple

from pileus.cli import output
from pileus.cli.client import Client
from pileus.cli.progress import Bars
from pileus.cli.watch import begin_job, demand_success, wait_for_rest, watch_job
from pileus.core.errors import OperatorError

_DEPLOYMENTS = "/admin/v1/deployments"
_LOOK_S = 0.25


class Answering(NamedTuple):
    """Deployments that answer; `is_ours` where one of them goes when the command ends."""

    deployments: list[str]
    is_ours: bool


def run_job(
    client: Client, kind: str, spec: dict[str, Any], title: str, answering: Answering | None = None
) -> dict[str, Any]:
    """Its result, once it has ended. Interrupted, a job that asks a deployment of this command's rests before that is
    undeployed: what nobody answers would count as answered wrongly. Raises `OperatorError` where it failed."""
    job = begin_job(client, kind, spec)
    is_held = answering is not None and answering.is_ours
    try:
        demand_success(watch_job(client, job["id"], title, pauses=is_held or not client.lasts))
    except KeyboardInterrupt:
        if is_held:
            wait_for_rest(client, job["id"])
        raise
    found: dict[str, Any] = client.get(f"/admin/v1/evaluations/{job['id']}")["result"]
    return found


@contextmanager
def served(client: Client, *models: str, by_model: bool = False) -> Iterator[Answering]:
    """For each, a deployment that answers: one that there is, by its name or alias or, with `by_model`, by the model
    that it serves; else one that is deployed for this command, and undeployed in the end."""
    with ExitStack() as stack:
        found = [_there(client, model, by_model=by_model) for model in models]
        names = [name or _deployed(client, stack, model) for name, model in zip(found, models, strict=True)]
        yield Answering(names, is_ours=None in found)


def _there(client: Client, model: str, *, by_model: bool) -> str | None:
    deployments = client.get(_DEPLOYMENTS)["data"]
    for each in deployments:
        if each["model"] == model if by_model else model in (each["name"], *each["aliases"]):
            return str(each["name"])
    if not by_model and client.find(f"/v1/models/{model}") is not None:  # a public name
        return model
    return None


def _deployed(client: Client, stack: ExitStack, model: str) -> str:
    """For as long as the stack lasts."""
    name = f"eval-{model}"[:64]
    client.put(f"{_DEPLOYMENTS}/{name}", {"name": name, "model": model})
    stack.callback(client.delete, f"{_DEPLOYMENTS}/{name}")
    _wait_ready(client, name)
    return name


def _wait_ready(client: Client, name: str) -> None:
    with Bars() as bars:
        while (found := client.find(f"{_DEPLOYMENTS}/{name}")) is not None:
            act = found["act"] or {"ended": True, "error": ""}
            if act.get("error"):
                raise OperatorError(act["error"])
            if act["ended"] and found["ready"]:
                return
            bars(f"deploying {name}", act.get("done", 0), act.get("total", 0))
            sleep(_LOOK_S)
    raise OperatorError(f"{name} was undeployed meanwhile")


def task_specs(
    tasks: list[str] | None, *, metrics: list[str] | None, limit: int, max_tokens: int, raw: bool
) -> list[dict[str, Any]]:
    """`PATH`, or `FORMAT=PATH`, as specs."""
    found = []
    for text in tasks or []:
        form, equals, path = text.partition("=")
        if not equals or "/" in form:
            form, path = "", text
        spec: dict[str, Any] = {"path": str(existing(Path(path))), "format": form, "limit": limit, "raw": raw}
        found.append(spec | {"metrics": metrics or [], "max_tokens": max_tokens})
    return found


def existing(path: Path) -> Path:
    """As the server finds it. Raises `OperatorError`."""
    if not path.is_file():
        raise OperatorError(f"there is no file {path}")
    return path.resolve()


def save(out: Path | None, name: str, report: str, result: dict[str, Any]) -> None:
    """As `NAME.md` and `NAME.json` in a folder."""
    if out is None:
        return
    from json import dumps

    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.md").write_text(report, encoding="utf-8")
    (out / f"{name}.json").write_text(dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    output.note(f"saved: {out / name}.md and .json")

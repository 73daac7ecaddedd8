"""`pileus backup` and `pileus restore`: a data folder as one file, and back.

A running server is asked for its backup, and goes on meanwhile. With `--data` the folder itself is read, which works
only while no server owns it.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING, Annotated

import typer

from pileus.cli import output
from pileus.cli.client import Client
from pileus.cli.config import load
from pileus.cli.options import DEFAULT_URL, Config, Json, Url
from pileus.cli.progress import Bars
from pileus.core.errors import OperatorError

if TYPE_CHECKING:
    from pileus.store.archive import Manifest

_PATIENCE_S = 2.0  # shorter work shows no bar
_TOTAL_HEADER = "x-pileus-backup-bytes"

Pieces = tuple[int, Iterable[bytes]]  # about how many bytes, and the bytes


def backup(
    archive: Annotated[Path, typer.Argument(help="The file to make; it must not exist yet.")],
    models: Annotated[bool, typer.Option("--models", help="Put the models in too.")] = False,
    data: Annotated[Path | None, typer.Option("--data", help="A data folder whose server is stopped.")] = None,
    url: Url = DEFAULT_URL,
    config: Config = None,
    json: Json = False,
) -> None:
    """Write what Pileus knows into one file while it goes on: keys, usage, audit, deployments, files, jobs.

    Whoever has the file can do what the owner of the data folder can. Models are left out unless asked for.

    Examples: `pileus backup monday.tar`, `pileus backup monday.tar --data ~/pileus`
    """
    if archive.exists():
        raise OperatorError(f"{archive} exists: name a new file")

    from pileus.bootstrap.local import open_archive
    from pileus.store.durable import sync_folder

    draft = archive.with_name(f"{archive.name}.part")
    try:
        with Bars(patience_s=_PATIENCE_S) as bars:
            with ExitStack() as stack:
                with _awaited(bars):
                    making = _of_folder(config, data, models) if data else _of_server(url, models)
                    total, pieces = stack.enter_context(making)
                _write(draft, pieces, total, bars)
            manifest = open_archive(draft).check(bars)
        draft.rename(archive)
        sync_folder(archive.parent)
    finally:
        draft.unlink(missing_ok=True)
    size = archive.stat().st_size
    if json:
        output.json({"archive": str(archive), "bytes": size} | _facts(manifest))
    else:
        _warn(manifest)
        output.line(f"{archive} has {len(manifest.members)} files, {output.size(size)}, checked. Keep it secret.")


def restore(
    archive: Annotated[Path, typer.Argument(help="A file that `pileus backup` made.")],
    data: Annotated[Path | None, typer.Option("--data", help="The data folder to make; absent or empty.")] = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Make a data folder of a backup. All of it is checked before anything is written.

    Example: `pileus restore monday.tar --data ~/pileus-again`
    """
    from pileus.bootstrap.local import open_archive

    folder = load(config, {"data_dir": data}).settings.data_dir
    with Bars(patience_s=_PATIENCE_S) as bars:
        manifest = open_archive(archive).run(folder, bars)
    if json:
        output.json({"data": str(folder)} | _facts(manifest))
    else:
        _warn(manifest)
        output.line(f"{folder} is restored. Start it with `pileus up --data {folder}`.")


@contextmanager
def _awaited(bars: Bars) -> Iterator[None]:
    """Show that the database is being copied, where that takes long: nothing comes before its end."""
    bars("preparing", 0, 0)
    timer = Timer(_PATIENCE_S, bars, ("preparing", 0, 0))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def _of_server(url: str, models: bool) -> Iterator[Pieces]:
    path = f"/admin/v1/backup?models={str(models).lower()}"
    with Client(url) as client, client.download(path) as (headers, pieces):
        yield int(headers.get(_TOTAL_HEADER, 0)), pieces


@contextmanager
def _of_folder(config: Path | None, data: Path, models: bool) -> Iterator[Pieces]:
    from pileus.bootstrap.local import backup_of_stopped

    with backup_of_stopped(load(config, {"data_dir": data}).settings, models=models) as made:
        yield made.total, made.pieces()


def _write(draft: Path, pieces: Iterable[bytes], total: int, bars: Bars) -> None:
    """On the disk when this returns; for nobody else to read."""
    draft.unlink(missing_ok=True)
    done = 0
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123
        for piece in pieces:
            file.write(piece)
            done += len(piece)
            bars("copying", done, max(total, done))
        file.flush()
        os.fsync(file.fileno())


def _facts(manifest: "Manifest") -> dict[str, object]:
    return {
        "pileus": manifest.pileus,
        "schema": manifest.schema,
        "made_at": manifest.made_at,
        "files": len(manifest.members),
        "blobs": manifest.blobs,
        "absent": manifest.absent,
        "damaged": manifest.damaged,
    }


def _warn(manifest: "Manifest") -> None:
    """What the archive does not hold, and what it holds that was broken before."""
    if manifest.absent and manifest.blobs:
        output.note(f"{len(manifest.absent)} contents are in {manifest.blobs}, not in the backup.")
    elif manifest.absent:
        output.note(f"{len(manifest.absent)} contents are missing from the data folder, e.g. {manifest.absent[0]}.")
    if manifest.damaged:
        output.note(f"{len(manifest.damaged)} contents are not what was stored, e.g. {manifest.damaged[0]}.")

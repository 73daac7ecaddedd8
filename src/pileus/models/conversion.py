"""Run the converter in a process of its own: it needs libraries that the server must never load, and what it parses
may be hostile or make it crash."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from pileus.core.errors import ModelRefused, OperatorError
from pileus.models.artefact import ENCODING, MANIFEST, Artefact, Kind, Manifest, digest_file, write_record
from pileus.models.progress import Progress
from pileus.models.store import ModelStore, require_space

# Room for the artefact and for what the converter writes on the way.
_SPACE_FACTOR = 2
_MASTER_SPACE_FACTOR = 4  # 4 bits become 16
UNQUANTISED: Final = "--unquantised"  # the converter makes a master of a GGUF


class Report(Struct, frozen=True, omit_defaults=True):
    """One line that the converter prints: how far it is, that it is done, or why it is not."""

    stage: str = ""
    done: int = 0
    total: int = 0
    refused: str = ""
    failed: str = ""
    finished: str = ""  # the converter and its version


def convert(
    source: Path,
    name: str,
    store: ModelStore,
    progress: Progress,
    *,
    licence: str,
    source_id: str,
    model: str = "",
    origin: str = "",
) -> Artefact:
    """Make an artefact of a GGUF file or a folder, and install it. Call while holding the name's lock."""
    require_space(store.root, _SPACE_FACTOR * _size_of(source))
    with store.scratch(name) as scratch:
        folder = scratch / "artefact"
        folder.mkdir()
        converter = _run(source, folder, scratch, progress)
        progress("installing", 0, 0)
        files = {file.name: digest_file(file) for file in sorted(folder.iterdir())}
        manifest = Manifest(
            kind=Kind.ENCODER if ENCODING in files else Kind.GENERATOR,
            name=name,
            model=model,
            licence=licence,
            source=source_id,
            origin=origin,
            converter=converter,
            files=files,
        )
        write_record(folder / MANIFEST, manifest)
        return store.install(folder, name)


def unquantise(source: Path, name: str, store: ModelStore, progress: Progress) -> Path:
    """Make the master of a GGUF file: a Hugging Face folder in float16. Call while holding the name's lock."""
    require_space(store.root, _MASTER_SPACE_FACTOR * _size_of(source))
    with store.scratch(name) as scratch:
        folder = scratch / "master"
        folder.mkdir()
        _run(source, folder, scratch, progress, UNQUANTISED)
        return store.keep_master(folder, name)


def _run(source: Path, folder: Path, scratch: Path, progress: Progress, *options: str) -> str:
    """Returns what converted it. Raises `ModelRefused` with the converter's reason."""
    log = scratch / "log"
    command = [sys.executable, "-m", "pileus.models.convert", str(source.resolve()), str(folder), *options]
    environment = os.environ | {"TMPDIR": str(scratch)}
    with log.open("wb") as errors:
        process = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, env=environment, cwd=scratch
        )
    try:
        if converter := _follow(process, source, progress):
            return converter
        status = process.wait()
    finally:
        process.kill()
        process.wait()
    raise OperatorError(f"the conversion of {source.name} ended with status {status}: {_last_line(log)}")


def _follow(process: "subprocess.Popen[bytes]", source: Path, progress: Progress) -> str:
    """Read its reports until the end; returns what converted, or nothing if it ended before it was done."""
    assert process.stdout is not None
    with process.stdout as lines:
        for line in lines:
            report = msgspec.json.decode(line, type=Report)
            if report.refused:
                raise ModelRefused(f"{source.name} is refused: {report.refused}")
            if report.failed:
                raise OperatorError(report.failed)
            if report.finished:
                return report.finished
            progress(report.stage, report.done, report.total)
    return ""


def _size_of(source: Path) -> int:
    files = source.rglob("*") if source.is_dir() else (source,)
    return sum(file.stat().st_size for file in files if file.is_file())


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else "no message"

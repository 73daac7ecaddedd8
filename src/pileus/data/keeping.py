"""Files and folders that are there whole or not at all, also after a power cut."""

import os
import shutil
from pathlib import Path

from pileus.store.durable import make_folder, sync_folder


def keep(path: Path, content: bytes) -> None:
    """Write a file, in place of one that is there."""
    draft = path.with_name(f".{path.name}.draft")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
    sync_folder(path.parent)


def hand_over(made: Path, out: Path, but: str) -> None:
    """Move a folder, but for files that match `but`, to where there is none or an empty one; also to another disk."""
    make_folder(out.parent)
    draft = out.with_name(f".{out.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(made, draft, ignore=shutil.ignore_patterns(but), copy_function=_link)
    sync_folder(draft)
    if out.exists():
        out.rmdir()
    draft.rename(out)
    sync_folder(out.parent)
    shutil.rmtree(made)


def _link(source: str, target: str) -> None:
    """One file under two names costs no room; on another disk it is a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
        with Path(target).open("rb") as copied:
            os.fsync(copied.fileno())

"""Folders that are there after a power cut."""

import os
from pathlib import Path


def make_folder(folder: Path) -> None:
    """With those above it, as durable as what will lie in it. No-op where it is. Raises `OSError`."""
    if folder.exists():
        return
    make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    try:
        sync_folder(folder.parent)
    except OSError:
        folder.rmdir()
        raise


def sync_folder(folder: Path) -> None:
    """What was made, renamed and deleted in it is so for good. Raises `OSError`."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

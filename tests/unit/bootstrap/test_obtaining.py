"""A job that gets a model: what it gives, how it pauses, what stands against it."""

from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import pytest

from made_models import write_tiny_gguf
from pileus.bootstrap.importing import import_model
from pileus.config.settings import Settings
from pileus.jobs.child import Brief
from pileus.jobs.handler import YIELDED, JobFailed
from pileus.jobs.task import Task
from pileus.models.catalogue import ModelEntry
from pileus.models.obtaining import ImportSpec, PullSpec
from pileus.store.job_table import Wish


class Asked(Task):
    """One of which something is wished from the beginning."""

    def __init__(self, folder: Path, spec: ImportSpec, wish: Wish = Wish.NONE) -> None:
        settings = msgspec.Raw(Settings(data_dir=folder / "data").model_dump_json().encode())
        brief = Brief(spec=msgspec.Raw(msgspec.json.encode(spec)), folder=str(folder), metrics="", settings=settings)
        super().__init__(brief, BytesIO())
        self._wish = wish


@pytest.fixture
def spec(tmp_path: Path) -> ImportSpec:
    write_tiny_gguf(tmp_path / "tiny.gguf")
    return ImportSpec(path=str(tmp_path / "tiny.gguf"), name="mine")


def test_it_gives_the_model_that_it_installed(tmp_path: Path, spec: ImportSpec) -> None:
    entry = import_model(Asked(tmp_path, spec))
    assert isinstance(entry, ModelEntry)
    assert (entry.name, entry.installed) == ("mine", True)


def test_it_pauses_where_it_tells_how_far_it_is_and_goes_on(tmp_path: Path, spec: ImportSpec) -> None:
    assert import_model(Asked(tmp_path, spec, Wish.PAUSE)) is YIELDED
    assert not (tmp_path / "data/models/artefacts/mine").exists()
    assert isinstance(import_model(Asked(tmp_path, spec)), ModelEntry)


def test_what_stands_against_it_ends_the_job(tmp_path: Path, spec: ImportSpec) -> None:
    import_model(Asked(tmp_path, spec))
    with pytest.raises(JobFailed, match="mine is installed already"):
        import_model(Asked(tmp_path, spec))


@pytest.mark.parametrize(
    ("kind", "spec"), [(PullSpec, {"reference": ""}), (ImportSpec, {"path": "models/x", "name": "x"})]
)
def test_specs_say_what_they_lack(kind: Any, spec: dict[str, str]) -> None:
    with pytest.raises(msgspec.ValidationError, match="should"):
        msgspec.convert(spec, kind)

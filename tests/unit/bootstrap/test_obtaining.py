"""A job that gets a model: what it gives, how it stops, what stands against it."""

from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import pytest

from made_models import write_tiny_gguf
from pileus.bootstrap.obtaining import obtain
from pileus.config.settings import Settings
from pileus.jobs.child import Brief
from pileus.jobs.handler import YIELDED, JobFailed
from pileus.jobs.task import Task
from pileus.models.catalogue import Catalogue, ModelEntry
from pileus.models.obtaining import ImportSpec, PullSpec
from pileus.store.job_table import Wish


class Asked(Task):
    """One of which something is wished from the beginning."""

    def __init__(self, root: Path, kind: str, spec: msgspec.Struct, wish: Wish = Wish.NONE, job: str = "job") -> None:
        (root / job).mkdir(exist_ok=True)
        settings = msgspec.Raw(Settings(data_dir=root / "data").model_dump_json().encode())
        brief = Brief(
            spec=msgspec.Raw(msgspec.json.encode(spec)),
            folder=str(root / job),
            metrics="",
            settings=settings,
            kind=kind,
        )
        self.said = BytesIO()
        super().__init__(brief, self.said)
        self._wish = wish


@pytest.fixture
def spec(tmp_path: Path) -> ImportSpec:
    write_tiny_gguf(tmp_path / "tiny.gguf")
    return ImportSpec(path=str(tmp_path / "tiny.gguf"), name="mine")


def artefact(root: Path) -> Path:
    return root / "data/models/artefacts/mine"


def test_it_gives_the_model_that_it_installed_and_tells_each_stage(tmp_path: Path, spec: ImportSpec) -> None:
    task = Asked(tmp_path, "import", spec)
    entry = obtain(task)
    assert isinstance(entry, ModelEntry)
    assert (entry.name, entry.installed) == ("mine", True)
    assert b"converting" in task.said.getvalue()


def test_it_pauses_where_it_would_tell_how_far_it_is_and_goes_on(tmp_path: Path, spec: ImportSpec) -> None:
    assert obtain(Asked(tmp_path, "import", spec, Wish.PAUSE)) is YIELDED
    assert not artefact(tmp_path).exists()
    assert isinstance(obtain(Asked(tmp_path, "import", spec)), ModelEntry)


@pytest.mark.parametrize("wish", [Wish.CANCEL, Wish.EXPIRE])
def test_it_ends_where_it_is_to_end_and_installs_nothing(tmp_path: Path, spec: ImportSpec, wish: Wish) -> None:
    with pytest.raises(JobFailed, match="was to end"):
        obtain(Asked(tmp_path, "import", spec, wish))
    assert not artefact(tmp_path).exists()
    assert not [*(tmp_path / "data/models").glob("work/mine/*")]


def test_what_stands_against_it_ends_the_job(tmp_path: Path, spec: ImportSpec) -> None:
    obtain(Asked(tmp_path, "import", spec))
    with pytest.raises(JobFailed, match="mine is installed already"):
        obtain(Asked(tmp_path, "import", spec, job="other"))


def test_one_that_was_killed_before_it_could_say_so_has_succeeded(tmp_path: Path, spec: ImportSpec) -> None:
    obtain(Asked(tmp_path, "import", spec))
    again = obtain(Asked(tmp_path, "import", spec))
    assert isinstance(again, ModelEntry)


def test_what_cannot_be_read_is_named(tmp_path: Path, spec: ImportSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*arguments: Any, **more: Any) -> None:
        raise PermissionError(13, "Permission denied", spec.path)

    monkeypatch.setattr(Path, "stat", denied)
    with pytest.raises(JobFailed, match=f"{spec.path} cannot be read"):
        obtain(Asked(tmp_path, "import", spec))


def test_what_names_no_repository_is_refused_as_such(tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match="is no repository of a hub: org/name"):
        obtain(Asked(tmp_path, "pull", PullSpec(reference="a//b")))


def test_a_pull_from_a_mirror_is_a_job_too(tmp_path: Path, spec: ImportSpec) -> None:
    obtain(Asked(tmp_path, "import", spec))
    catalogue = Catalogue(tmp_path / "data/models", Settings().models)
    catalogue.push("mine", str(tmp_path / "mirror"), "1")
    catalogue.remove("mine")
    entry = obtain(Asked(tmp_path, "pull", PullSpec(reference="mine@1", source=str(tmp_path / "mirror")), job="pull"))
    assert isinstance(entry, ModelEntry)
    assert artefact(tmp_path).is_dir()


@pytest.mark.parametrize(
    ("kind", "spec"), [(PullSpec, {"reference": ""}), (ImportSpec, {"path": "models/x", "name": "x"})]
)
def test_specs_say_what_they_lack(kind: Any, spec: dict[str, str]) -> None:
    with pytest.raises(msgspec.ValidationError, match="should"):
        msgspec.convert(spec, kind)

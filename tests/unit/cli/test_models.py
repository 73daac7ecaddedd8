"""`pileus models`, from an import to a removal; the catalogue itself is tried in tests/unit/models."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from msgspec.json import encode
from sqlalchemy import Connection

from made_models import write_tiny_gguf
from made_versions import shelve
from pileus.config.settings import Deployment
from pileus.models.adapter import Belonging, belonging_to
from pileus.models.artefact import ADAPTER, load_artefact
from pileus.store.adapter_table import AdapterTable, StoredAdapter
from pileus.store.sqlite import DATABASE_FILE, SqliteStore
from pileus.store.tables import DeploymentTable, StoredDeployment
from unit.cli.conftest import Pileus


def test_an_imported_model_is_listed_until_it_is_removed(
    pileus: Pileus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_tiny_gguf(tmp_path / "tiny.gguf")
    data = ("--data", str(tmp_path / "data"))
    assert pileus("models", "import", "tiny.gguf", "mine", *data, "--json").json()["installed"]
    kept = pileus("models", "rm", "mine", *data, "--json", piped="n\n")
    assert (kept.status, kept.out.strip()) == (1, "")
    removed = pileus("models", "rm", "mine", *data, "--json", piped="y\n")
    assert removed.json() == {"name": "mine", "deleted": True}
    assert "Delete mine" in removed.err
    assert "mine" not in [entry["name"] for entry in pileus("models", "list", *data, "--json").json()]
    assert pileus("models", "rm", "mine", *data, "--yes").status == 1


@pytest.fixture
def data(pileus: Pileus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model, `mine`; the settings name another."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PILEUS_DATA_DIR", str(tmp_path / "data"))
    write_tiny_gguf(tmp_path / "tiny.gguf")
    assert pileus("models", "import", "tiny.gguf", "mine").status == 0
    return tmp_path / "data"


def names(pileus: Pileus) -> list[str]:
    return [entry["name"] for entry in pileus("models", "list", "--json").json() if entry["installed"]]


def refused(pileus: Pileus, name: str = "mine") -> str:
    """Why; it is still there, and nobody was asked."""
    tried = pileus("models", "rm", name, "--yes")
    assert tried.status == 1
    assert pileus("models", "show", name, "--json").json()["installed"]
    return tried.err.strip()


@contextmanager
def recorded(data: Path, *rows: StoredDeployment | StoredAdapter) -> Iterator[None]:
    """Meanwhile a server owns the folder, and has these on record."""

    def write(tx: Connection) -> None:
        for row in rows:
            if isinstance(row, StoredDeployment):
                DeploymentTable().put(tx, row)
            else:
                AdapterTable().put(tx, row)

    store = SqliteStore.open(data)
    try:
        store.write_blocking(write)
        yield
    finally:
        store.close()


def deployed(name: str, model: str) -> StoredDeployment:
    return StoredDeployment(name, Deployment(name=name, model=model).model_dump_json(), 0.0, "key_1")


def adapted(deployment: str, artefact: str) -> StoredAdapter:
    return StoredAdapter(deployment=deployment, name="style", artefact=artefact, created_at=0.0, created_by="key_1")


def make_adapter(data: Path, name: str, base_sha256: str = "") -> None:
    """Of `mine`, where nothing else is said."""
    sha256 = base_sha256 or belonging_to(load_artefact(data / "models" / "artefacts" / "mine")).base_sha256
    shelve(data / "models", name, {ADAPTER: encode(Belonging(base="mine", base_sha256=sha256))})


def test_what_a_deployment_of_the_settings_serves_is_not_removed_unless_it_is_forced(
    pileus: Pileus, data: Path
) -> None:
    Path("pileus.toml").write_text('[[deployment]]\nname = "chat"\nmodel = "mine"\n')
    said = "the deployment chat serves it (take it out of pileus.toml:3 first); or force it (`--force`)"
    assert f"mine is still needed: {said}" in refused(pileus)
    forced = pileus("models", "rm", "mine", "--yes", "--force", "--json")
    assert forced.json() == {"name": "mine", "deleted": True}
    assert names(pileus) == []


def test_what_was_deployed_at_run_time_is_not_removed_with_or_without_its_server(pileus: Pileus, data: Path) -> None:
    with recorded(data, deployed("chat", "mine"), deployed("other", "theirs")):
        assert "still needed: the deployment chat serves it (`pileus undeploy chat` first); or" in refused(pileus)
    assert "still needed: the deployment chat serves it (`pileus undeploy chat` first); or" in refused(pileus)
    Path("pileus.toml").write_text('[[deployment]]\nname = "chat"\nmodel = "theirs"\n')  # which overrules the record
    assert pileus("models", "rm", "mine", "--yes").status == 0


def lying(data: Path) -> dict[str, tuple[int, int, bytes]]:
    """The files of the folder itself."""
    files = (path for path in data.iterdir() if path.is_file())
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def test_to_look_who_needs_a_model_writes_nothing_as_on_a_disk_that_is_full(pileus: Pileus, data: Path) -> None:
    with recorded(data, deployed("chat", "mine")):
        while_owned = lying(data)
        assert "the deployment chat serves it" in refused(pileus)
        assert lying(data).keys() == while_owned.keys()
    before = lying(data)
    assert "the deployment chat serves it" in refused(pileus)
    assert lying(data) == before


def test_what_was_left_in_a_log_is_seen(pileus: Pileus, data: Path, tmp_path: Path) -> None:
    with recorded(data, deployed("chat", "mine")):
        shutil.copytree(data, tmp_path / "killed")
    (tmp_path / "killed" / f"{DATABASE_FILE}-shm").unlink()
    assert (tmp_path / "killed" / f"{DATABASE_FILE}-wal").stat().st_size
    tried = pileus("models", "rm", "mine", "--yes", "--data", str(tmp_path / "killed"))
    assert "the deployment chat serves it" in tried.err


def test_where_it_cannot_be_seen_who_needs_a_model_it_can_be_forced(pileus: Pileus, data: Path) -> None:
    (data / DATABASE_FILE).write_bytes(b"no database, and long enough to be taken for one" * 30)
    told = refused(pileus)
    assert "who needs mine is not known: cannot open" in told
    assert told.endswith("; or force it (`--force`)")
    assert pileus("models", "rm", "mine", "--yes", "--force").status == 0


def test_a_database_of_an_older_pileus_is_read_as_it_is(pileus: Pileus, data: Path) -> None:
    with recorded(data, deployed("chat", "mine")):
        pass
    with closing(sqlite3.connect(data / DATABASE_FILE)) as database:
        database.execute("DROP TABLE adapter")
        database.commit()
    assert "needed: the deployment chat serves it" in refused(pileus)


def test_what_the_default_settings_serve_is_needed_only_while_a_server_runs(pileus: Pileus, data: Path) -> None:
    artefacts = data / "models" / "artefacts"
    (artefacts / "mine").rename(artefacts / "smollm2-135m-instruct")
    with recorded(data):
        told = refused(pileus, "smollm2-135m-instruct")
        assert "the deployment smollm2-135m of the server that runs serves it (stop that server first)" in told
    assert pileus("models", "rm", "smollm2-135m-instruct", "--yes").status == 0


def test_a_base_is_not_removed_before_its_adapters(pileus: Pileus, data: Path) -> None:
    make_adapter(data, "mine:style")
    make_adapter(data, "mine:old", base_sha256="0" * 64)  # of weights that are not here
    assert "needed: the adapter mine:style is made for it (`pileus models rm mine:style` first); or" in refused(pileus)
    for number in range(6):
        make_adapter(data, f"mine:a{number}")
    assert "(`pileus models rm mine:a4` first); and 2 more; or force it" in refused(pileus)
    for name in ("mine:style", *(f"mine:a{number}" for number in range(6)), "mine"):
        assert pileus("models", "rm", name, "--yes").status == 0
    assert names(pileus) == ["mine:old"]


def test_a_copy_of_a_base_is_removed_while_the_other_stays(pileus: Pileus, data: Path) -> None:
    assert pileus("models", "import", "tiny.gguf", "copy").status == 0
    make_adapter(data, "mine:style")
    assert pileus("models", "rm", "copy", "--yes").status == 0
    assert "needed: the adapter mine:style is made for it (`pileus models rm mine:style` first); or" in refused(pileus)
    assert pileus("models", "import", "tiny.gguf", "copy").status == 0
    assert pileus("models", "rm", "mine", "--yes").status == 0  # the adapter fits its copy
    assert "the adapter mine:style is made for it" in refused(pileus, "copy")


def test_an_adapter_that_is_served_is_not_removed(pileus: Pileus, data: Path) -> None:
    make_adapter(data, "mine:style")
    with recorded(data, adapted("gone", "mine:style")):  # a server with other settings may have it
        assert "it is served as gone:style (`pileus adapters remove gone style` first)" in refused(pileus, "mine:style")
    with recorded(data, adapted("smollm2-135m", "mine:style")):
        pass
    told = refused(pileus, "mine:style")
    assert "needed: it is served as smollm2-135m:style (`pileus adapters remove smollm2-135m style` first); or" in told
    assert pileus("models", "rm", "mine:style", "--yes", "--force").status == 0

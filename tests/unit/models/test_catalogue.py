"""From a name to an artefact and back to nothing; the conversion runs for real, on a tiny model."""

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from made_hub import Hub
from pileus.config.settings import Models
from pileus.core.errors import ModelRefused, OperatorError
from pileus.core.records import Message
from pileus.models.artefact import MANIFEST, verify
from pileus.models.catalogue import Catalogue
from pileus.models.known import HubFile, KnownModel
from pileus.models.progress import silent
from pileus.models.store import ModelStore
from pileus.models.tokenizer import load_tokenizer

StartHub = Callable[[bytes], Hub]


class World:
    """A catalogue of one model, and the hub that has it."""

    def __init__(self, models_dir: Path, hub: Hub) -> None:
        self.models_dir = models_dir
        self.hub = hub
        self.known = KnownModel(
            name="tiny-llama",
            summary="",
            licence="MIT",
            languages=("en",),
            context_length=128,
            sha256=hashlib.sha256(hub.content).hexdigest(),
            size_bytes=len(hub.content),
            hub=HubFile("someone/tiny", "tiny.gguf"),
        )

    def catalogue(self) -> Catalogue:
        return Catalogue(self.models_dir, Models(sources=("cache", "hub"), hub_url=self.hub.url), (self.known,))

    def files(self) -> set[str]:
        found = (path.relative_to(self.models_dir).as_posix() for path in self.models_dir.rglob("*") if path.is_file())
        return {name for name in found if not name.startswith("locks/")}


@pytest.fixture
def world(tmp_path: Path, start_hub: StartHub, tiny_gguf: Path) -> World:
    return World(tmp_path / "models", start_hub(tiny_gguf.read_bytes()))


def test_a_model_is_pulled_and_converted_once(world: World) -> None:
    stages: list[str] = []
    artefact = world.catalogue().ensure("tiny-llama", lambda stage, done, total: stages.append(stage))
    assert list(dict.fromkeys(stages)) == ["downloading", "verifying", "converting", "writing", "installing"]
    assert verify(artefact.path) == artefact
    assert (artefact.licence, artefact.context_length) == ("MIT", 128)
    assert artefact.generation.stop_ids == (2, 0)
    tokenizer = load_tokenizer(artefact.path)
    assert tokenizer.decode(tokenizer.encode_chat([Message("user", "hello")])) == "user\nhello\nassistant\n"

    again = world.catalogue().ensure("tiny-llama", pytest.fail)
    assert again == artefact
    assert len(world.hub.ranges) == 1


def test_two_pulls_at_once_fetch_once(world: World) -> None:
    both = threading.Barrier(2)

    def pull(_: int) -> Path:
        both.wait()
        return world.catalogue().ensure("tiny-llama").path

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(pull, range(2))
    assert first == second
    assert len(world.hub.ranges) == 1


def test_whoever_waits_for_another_pull_says_so(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    waiting = threading.Event()
    entered: list[str] = []

    def wait_for_it() -> None:
        with ModelStore(tmp_path).hold("m", lambda stage, done, total: waiting.set()):
            entered.append("second")

    with store.hold("m", silent):
        thread = threading.Thread(target=wait_for_it)
        thread.start()
        assert waiting.wait(10)
        entered.append("first")
    thread.join(10)
    assert entered == ["first", "second"]


def test_what_a_killed_pull_left_behind_is_swept(world: World) -> None:
    work = world.models_dir / "work"
    for name in ("tiny-llama", "tiny-llama.2"):
        (work / name / "killed").mkdir(parents=True)
        (work / name / "killed" / "half.bin").write_bytes(bytes(100))
    world.catalogue().ensure("tiny-llama")
    assert list((work / "tiny-llama").iterdir()) == []
    assert list((work / "tiny-llama.2").iterdir())  # another model's, perhaps at work right now


def test_removing_frees_everything(world: World) -> None:
    world.catalogue().ensure("tiny-llama")
    world.catalogue().remove("tiny-llama")
    assert world.files() == set()
    with pytest.raises(OperatorError, match="tiny-llama is not installed"):
        world.catalogue().remove("tiny-llama")


def test_the_list_tells_what_is_known_and_what_is_here(world: World) -> None:
    (entry,) = world.catalogue().list()
    assert (entry.name, entry.installed, entry.disk_bytes) == ("tiny-llama", False, 0)
    world.catalogue().ensure("tiny-llama")
    (entry,) = world.catalogue().list()
    assert entry.installed
    assert entry.disk_bytes > 0
    assert entry == world.catalogue().show("tiny-llama")


def test_an_artefact_of_an_older_version_is_made_anew_without_fetching(world: World) -> None:
    artefact = world.catalogue().ensure("tiny-llama")
    manifest = json.loads((artefact.path / MANIFEST).read_bytes())
    (artefact.path / MANIFEST).write_text(json.dumps(manifest | {"format": 0}))
    assert world.catalogue().ensure("tiny-llama") == artefact
    assert len(world.hub.ranges) == 1


def test_a_damaged_artefact_is_kept_and_refused_when_it_is_loaded(world: World) -> None:
    artefact = world.catalogue().ensure("tiny-llama")
    with (artefact.path / "openvino_model.bin").open("r+b") as weights:
        weights.write(b"!")
    assert world.catalogue().ensure("tiny-llama").path == artefact.path
    with pytest.raises(ModelRefused, match=r"openvino_model\.bin has changed"):
        verify(artefact.path)


def test_a_misspelt_name_is_answered_with_a_guess(world: World) -> None:
    with pytest.raises(OperatorError, match=r"no model 'tiny-lama': did you mean tiny-llama\?"):
        world.catalogue().ensure("tiny-lama")


def test_only_what_generates_text_learns_from_examples(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path, Models())
    catalogue.check_tunable("smollm2-135m-instruct")
    for name in ("all-minilm-l6-v2", "ms-marco-minilm-l12-v2"):
        catalogue.check_trainable(name)
        with pytest.raises(OperatorError, match="not a model that generates text"):
            catalogue.check_tunable(name)


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", "", ".", "..", "-x", "a\n"])
def test_attack_29_a_name_is_never_a_path(world: World, name: str) -> None:
    for act in (world.catalogue().ensure, world.catalogue().show, world.catalogue().remove):
        with pytest.raises(OperatorError, match="is not a model's name"):
            act(name)


def test_a_gguf_file_of_ones_own_is_imported(world: World, tiny_gguf: Path) -> None:
    artefact = world.catalogue().import_folder(tiny_gguf, "my-model")
    assert verify(artefact.path).name == "my-model"
    assert [entry.name for entry in world.catalogue().list()] == ["my-model", "tiny-llama"]
    with pytest.raises(OperatorError, match="installed already"):
        world.catalogue().import_folder(tiny_gguf, "my-model")
    with pytest.raises(OperatorError, match="built-in"):
        world.catalogue().import_folder(tiny_gguf, "tiny-llama")


def test_a_refused_import_leaves_nothing(world: World, tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ModelRefused, match=r"bad\.gguf is refused: "):
        world.catalogue().import_folder(tmp_path / "bad.gguf", "bad")
    assert world.files() == set()
    with pytest.raises(OperatorError, match="does not exist"):
        world.catalogue().import_folder(tmp_path / "absent", "bad")


def test_a_converter_that_dies_is_told_with_its_last_words(
    world: World, tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(OperatorError, match=r"the conversion of tiny\.gguf ended with status 1"):
        world.catalogue().import_folder(tiny_gguf, "m")


def test_neither_the_catalogue_nor_the_tokenizer_loads_what_only_the_converter_needs() -> None:
    heavy = {"openvino", "openvino_genai", "torch", "transformers", "gguf", "numpy", "httpx"}
    script = "import sys, pileus.models.catalogue, pileus.models.tokenizer; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert heavy.isdisjoint(loaded)

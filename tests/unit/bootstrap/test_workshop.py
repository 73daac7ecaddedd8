"""From what an operator wants to what the fleet can run."""

from pathlib import Path
from typing import Any

import pytest
from msgspec.json import encode

from made_encoders import write_bert
from made_versions import shelve
from pileus.bootstrap.local import open_catalogue
from pileus.bootstrap.workshop import LocalWorkshop
from pileus.config.settings import Deployment, Models, Settings
from pileus.core.errors import InvalidRequest, ModelRefused
from pileus.fleet.memory import Footprint
from pileus.models.adapter import Belonging
from pileus.models.known import KNOWN_MODELS
from pileus.models.progress import silent
from pileus.models.signature import attach, sign
from pileus.models.store import MODELS_FOLDER
from pileus.security.pepper import Pepper
from pileus.security.signing import Signer

MODEL = KNOWN_MODELS[0]
OTHER = Signer(b"b" * 32)


@pytest.fixture
def workshop(tmp_path: Path) -> LocalWorkshop:
    settings = Settings(data_dir=tmp_path)
    return LocalWorkshop(settings, open_catalogue(settings))


def test_the_footprint_is_what_the_download_has_and_what_the_options_ask_for(workshop: LocalWorkshop) -> None:
    wanted = Deployment(name="x", model=MODEL.name, options={"kv_bytes": 1 << 21})
    assert workshop.check(wanted) == Footprint(MODEL.size_bytes, 1 << 21)
    assert workshop.check(Deployment(name="x", model=MODEL.name)) == Footprint(MODEL.size_bytes, 1 << 30)


@pytest.mark.parametrize(
    ("wish", "param", "message"),
    [
        ({"engine": "nativ"}, "engine", "did you mean `native`"),
        ({"model": "nothing"}, "model", "there is no model 'nothing'"),
        ({"options": {"kv_byte": 1}}, "options.kv_byte", "did you mean `kv_bytes`"),
        ({"options": {"threads": "two"}}, "options.threads", "must be a whole number"),
        ({"engine": "encoder"}, "engine", "which is a model that generates text: name native, or no engine"),
        (
            {"model": "all-minilm-l6-v2", "engine": "native"},
            "engine",
            "is an encoder: name encoder, or no engine",
        ),
        ({"model": "fake", "engine": "native"}, "engine", "which is a fake model, for tests: name fake, or no engine"),
        ({"long_texts": "segments"}, "long_texts", "is for encoders, and smollm2-135m-instruct is none"),
        ({"model": "fake-encoder", "engine": "encoder"}, "engine", "name fake_encoder, or no engine"),
        ({"model": "all-minilm-l6-v2", "options": {"kv_bytes": 1}}, "options.kv_bytes", "engine 'encoder'"),
    ],
)
def test_what_cannot_run_is_refused_by_the_field_at_fault(
    workshop: LocalWorkshop, wish: dict[str, Any], param: str, message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message) as refused:
        workshop.check(Deployment(**{"name": "x", "model": MODEL.name} | wish))
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("model", "engine"),
    [
        (MODEL.name, "native"),
        ("all-minilm-l6-v2", "encoder"),
        ("ms-marco-minilm-l12-v2", "encoder"),
        ("fake", "fake"),
        ("fake-encoder", "fake_encoder"),
    ],
)
def test_where_no_engine_is_named_it_is_that_of_the_models_kind(
    workshop: LocalWorkshop, model: str, engine: str
) -> None:
    wanted = workshop.with_engine(Deployment(name="x", model=model))
    assert wanted == Deployment(name="x", model=model, engine=engine)
    assert workshop.with_engine(wanted) == wanted


async def test_what_is_installed_runs_on_the_engine_of_its_kind(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    catalogue = open_catalogue(settings)
    catalogue.import_folder(write_bert(tmp_path / "bert"), "texts")
    workshop = LocalWorkshop(settings, catalogue)
    made = await workshop.make(Deployment(name="x", model="texts", long_texts="segments"), silent)
    assert (made.info.engine, made.spec["engine"], made.info.long_texts) == ("encoder", "encoder", "segments")
    assert made.footprint.kv == 0


def test_an_adapter_is_deployed_beside_its_base_only(workshop: LocalWorkshop, tmp_path: Path) -> None:
    shelve(tmp_path / MODELS_FOLDER, "tone", {"adapter.json": encode(Belonging(base="fake", base_sha256=""))})
    with pytest.raises(InvalidRequest, match="`pileus adapters add`") as refused:
        workshop.check(Deployment(name="x", model="tone"))
    assert refused.value.param == "model"


async def test_a_model_that_is_none_needs_no_files(workshop: LocalWorkshop) -> None:
    made = await workshop.make(Deployment(name="x", model="fake", engine="fake", replicas=2, min_replicas=1), silent)
    assert (made.replicas, made.spec["model_path"], made.footprint.total) == (2, None, 0)
    assert made.policy is not None
    assert (made.policy.min_replicas, made.policy.max_replicas) == (1, 2)
    assert workshop.tokenizer("fake").context_length == 8192


def test_an_adapter_is_found_only_with_a_signature_where_signatures_are_demanded(tmp_path: Path) -> None:
    pepper = Pepper.load(tmp_path)
    belonging = encode(Belonging(base="fake", base_sha256=""))
    sha256 = shelve(tmp_path / MODELS_FOLDER, "tone", {"adapter.json": belonging})
    path = tmp_path / MODELS_FOLDER / "artefacts" / "tone"
    open_to_all, strict = (Settings(data_dir=tmp_path, models=Models(require_signature=it)) for it in (False, True))
    trusting = Settings(data_dir=tmp_path, models=Models(require_signature=True, trusted_keys=(OTHER.public_key,)))

    def find(settings: Settings) -> str:
        return LocalWorkshop(settings, open_catalogue(settings)).find("tone", "fake")[1]

    assert find(open_to_all) == str(path)
    with pytest.raises(ModelRefused, match=r"tone is not signed, and models\.require_signature asks for it"):
        find(strict)
    attach(path, b"{}", sign(sha256, b"{}", OTHER))
    with pytest.raises(ModelRefused, match=r"which models\.trusted_keys does not name"):
        find(strict)
    assert find(trusting) == str(path)
    attach(path, b"{}", sign(sha256, b"{}", pepper.signer()))
    assert find(strict) == str(path)

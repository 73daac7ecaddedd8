"""A compression that begins from an adapter: what it makes holds the adapter's changes."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the `train` extra is not installed: `make extras`")
pytest.importorskip("nncf", reason="the `train` extra is not installed: `make extras`")

from safetensors.numpy import load_file

from pileus.compression.source import origin_of
from pileus.jobs.handler import JobFailed
from pileus.models.adapter import Belonging, belonging_to
from pileus.models.artefact import Artefact, verify
from pileus.models.low_rank import install_adapter
from pileus.models.progress import silent
from pileus.models.store import ModelStore
from pileus.testing.adapters import merged, random_tensors, write_adapter
from unit.compression.bench import PARENT, Lease, compress, install_parent, spec

NAME = f"{PARENT}:learnt"
RANK = 4


def install(data_dir: Path, belonging: Belonging) -> Artefact:
    store = ModelStore(data_dir / "models")
    folder = write_adapter(data_dir / "peft", random_tensors(5, RANK), RANK, target_modules="all-linear")
    with store.hold(NAME, silent):
        return install_adapter(folder, NAME, belonging, store, source="test")


def base_of(data_dir: Path) -> Belonging:
    base = ModelStore(data_dir / "models").artefact(PARENT)
    assert base is not None
    return belonging_to(base)


async def test_what_is_made_of_an_adapter_is_its_base_with_the_changes(tmp_path: Path) -> None:
    master = install_parent(tmp_path)
    install(tmp_path, base_of(tmp_path))
    asked = spec({"name": "own", "to": "fp16"}, model=NAME)
    result = await compress(Lease(tmp_path / "job", asked), tmp_path)
    assert isinstance(result, dict)
    (made,) = result["made"]
    assert made["parents"] == [{"kind": "artefact", "id": NAME, "relation": "compressed from"}]
    wanted = merged(
        {name: each.astype(np.float32) for name, each in load_file(master / "model.safetensors").items()},
        random_tensors(5, RANK),
    )
    found = load_file(tmp_path / "job" / "merged" / "model.safetensors")
    assert found.keys() == wanted.keys()
    for name, each in found.items():
        np.testing.assert_allclose(each.astype(np.float32), wanted[name], atol=2e-3, rtol=1e-3)
    verify(tmp_path / "models" / "artefacts" / "own")


def test_an_adapter_of_other_weights_is_refused(tmp_path: Path) -> None:
    install_parent(tmp_path)
    install(tmp_path, Belonging(base=PARENT, base_sha256="0" * 64))
    with pytest.raises(JobFailed, match=f"an adapter of {PARENT}, which is not installed as it was"):
        origin_of(ModelStore(tmp_path / "models"), NAME)

"""The job, run as a worker runs it: a process of its own, on a tiny model."""

import asyncio
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the `train` extra is not installed: `make extras`")
if find_spec("nncf") is None:  # to import it takes seconds, which only the job's process needs
    pytest.skip("the `train` extra is not installed: `make extras`", allow_module_level=True)

from pileus.bootstrap import load_driver
from pileus.core.ports import EngineSpec
from pileus.core.records import EngineRequest, SamplingParams
from pileus.jobs.handler import YIELDED, JobFailed
from pileus.models.artefact import verify
from pileus.models.store import ModelStore
from unit.compression.bench import PARENT, Lease, compress, compress_here, install_parent, spec

QUICK = {"steps": 6, "batch": 2, "length": 16}
SHARP = {"group": 32, "tuned": ["awq", "scale"]}
VARIANTS = (
    {"name": "half", "to": "fp16"},
    {"name": "eight", "to": "int8"},
    {"name": "four", "to": "int4", "weights": SHARP},
    {"name": "four-gptq", "to": "int4", "weights": {"group": 32, "symmetric": True, "tuned": ["gptq"]}},
    {"name": "full", "to": "full-int8"},
    {"name": "sparse", "to": "pruned", "pruning": {"by": "wanda", "amount": 0.5, "recovery": QUICK}},
    {"name": "narrow", "to": "pruned", "pruning": {"by": "heads", "amount": 0.5}, "then": "int8"},
    {
        "name": "pupil",
        "to": "distilled",
        "distillation": {"layers": 1, "learning": QUICK | {"logits": 1.0, "hidden": 0.5}},
    },
    {"name": "gguf", "to": "int8", "target": "gguf"},
)
NAMES = [str(variant["name"]) for variant in VARIANTS]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("compression")
    install_parent(root)
    return root


@pytest.fixture(scope="module")
def result(data_dir: Path) -> dict[str, Any]:
    async def run() -> Any:
        asked = spec(*VARIANTS, report=str(data_dir / "report"))
        return await compress(Lease(data_dir / "job", asked), data_dir)

    done = asyncio.run(run())
    assert isinstance(done, dict)
    return done


@pytest.fixture(scope="module")
def rows(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in result["rows"]}


def test_each_variant_is_installed_and_on_record(result: dict[str, Any], data_dir: Path) -> None:
    assert [made["model"] for made in result["made"]] == NAMES
    for made in result["made"]:
        artefact = verify(data_dir / "models" / "artefacts" / made["artefact"])
        assert made["size_bytes"] == artefact.size_bytes
        (parent,) = made["parents"]
        assert parent["id"] == PARENT
    relations = {made["model"]: made["parents"][0]["relation"] for made in result["made"]}
    assert (relations["eight"], relations["sparse"], relations["pupil"]) == (
        "compressed from",
        "pruned from",
        "distilled from",
    )


def test_fewer_bits_are_fewer_bytes(rows: dict[str, dict[str, Any]]) -> None:
    sizes = {name: row["size_bytes"] for name, row in rows.items()}
    assert sizes["half"] == sizes[PARENT]
    assert sizes["four"] < sizes["eight"] < 0.65 * sizes["half"]
    assert sizes["narrow"] < sizes["eight"]
    assert sizes["gguf"] < 0.65 * sizes["half"]


def test_the_report_holds_each_against_the_parent(rows: dict[str, dict[str, Any]]) -> None:
    assert rows[PARENT]["perplexity_ratio"]["value"] == 1
    assert rows["half"]["perplexity_ratio"]["value"] == 1
    for name in ("eight", "gguf"):
        assert rows[name]["perplexity_ratio"]["value"] == pytest.approx(1, abs=0.03)
    for row in rows.values():
        ratio = row["perplexity_ratio"]
        assert ratio["low"] <= ratio["value"] <= ratio["high"]
        assert 0 <= row["task"]["value"] <= 1


def test_pruned_weights_stay_nought_through_a_recovery(rows: dict[str, dict[str, Any]]) -> None:
    assert rows["sparse"]["zeros"] > 0.2  # half of the layers'; the embedding is whole
    assert rows[PARENT]["zeros"] < 0.01
    assert rows["narrow"]["parameters"] < rows[PARENT]["parameters"]
    assert rows["pupil"]["parameters"] < rows[PARENT]["parameters"]


@pytest.mark.parametrize("name", NAMES)
def test_the_native_engine_serves_it(name: str, result: dict[str, Any], data_dir: Path) -> None:
    driver = load_driver("native")
    folder = data_dir / "models" / "artefacts" / name
    options = driver.options(threads=1, kv_bytes=1 << 22)
    engine = driver.open(EngineSpec(name, folder, options, 256))
    engine.submit(EngineRequest(1, (5, 17, 40), SamplingParams(max_tokens=4, temperature=0.0, seed=1)))
    tokens: list[int] = []
    for step in engine.events():
        tokens += [token for emission in step.emissions for token in emission.tokens]
        if step.finishes:
            break
    engine.close()
    assert step.finishes[0].error == ""
    assert 1 <= len(tokens) <= 4


def test_the_next_compression_of_what_was_trained_begins_with_its_weights(
    result: dict[str, Any], data_dir: Path
) -> None:
    store = ModelStore(data_dir / "models")
    assert {name for name in NAMES if store.master(name)} == {"sparse", "narrow", "pupil"}


def test_the_report_is_for_programs_and_for_people(result: dict[str, Any], data_dir: Path) -> None:
    folder = data_dir / "report"
    assert [row["name"] for row in json.loads((folder / "report.json").read_bytes())["rows"]] == [PARENT, *NAMES]
    page = (folder / "report.md").read_text()
    assert all(f"| {name} |" in page for name in NAMES)
    assert (folder / "pareto.png").read_bytes().startswith(b"\x89PNG")


def test_a_gguf_has_its_file_beside_it(result: dict[str, Any], data_dir: Path) -> None:
    assert (data_dir / "models" / "artefacts" / "gguf" / "model.gguf").read_bytes().startswith(b"GGUF")


def test_a_name_that_is_taken_is_refused(data_dir: Path, result: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match="eight is installed already"):
        compress_here(tmp_path, spec({"name": "eight", "to": "int8"}), data_dir)


@pytest.mark.skipif(find_spec("llmcompressor") is not None, reason="llm-compressor is installed")
def test_without_llm_compressor_the_target_vllm_says_what_to_install(data_dir: Path, tmp_path: Path) -> None:
    asked = spec({"name": "v", "to": "int8", "target": "vllm"}, output=str(tmp_path / "out"))
    with pytest.raises(JobFailed, match="pip install --pre llmcompressor") as refusal:
        compress_here(tmp_path, asked, data_dir)
    assert refusal.value.code == "not_installed"


@pytest.mark.slow
async def test_a_training_that_was_paused_ends_as_one_that_was_not(data_dir: Path, tmp_path: Path) -> None:
    learning = {"steps": 30, "batch": 2, "length": 16, "logits": 1.0}
    asked = {"to": "distilled", "distillation": {"layers": 1, "learning": learning}}
    whole = Lease(tmp_path / "whole", spec(asked | {"name": "whole"}))
    await compress(whole, data_dir)
    first = Lease(tmp_path / "parts", spec(asked | {"name": "parts"}))
    first.pause_at = ("training parts", 2)
    assert await compress(first, data_dir) is YIELDED
    assert (tmp_path / "parts" / "variants" / "parts" / "learning.safetensors").exists()
    second = Lease(tmp_path / "parts", spec(asked | {"name": "parts"}), first.bodies[-1])
    await compress(second, data_dir)
    assert "task" in first.stages
    assert second.stages.count("training parts") < 30  # it went on
    masters = [ModelStore(data_dir / "models").master(name) for name in ("whole", "parts")]
    contents = [(master / "model.safetensors").read_bytes() for master in masters if master]
    np.testing.assert_equal(*(np.frombuffer(content, np.uint8) for content in contents))

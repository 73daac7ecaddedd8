from pathlib import Path

import numpy as np
import pytest

from made_encoders import write_bert
from pileus.config.settings import Models
from pileus.evaluation.attention import attend, explain, softmax_rows
from pileus.evaluation.attention_records import AttentionSpec
from pileus.evaluation.worked import as_text, work
from pileus.models.catalogue import Catalogue
from pileus.models.convert.dispatch import convert
from pileus.models.tokenizer import load_tokenizer

WITHOUT = "the `train` extra is not installed: `make extras`"


def test_the_worked_example_is_what_torch_computes() -> None:
    torch = pytest.importorskip("torch", reason=WITHOUT)
    worked = work()
    query, key, value = (
        torch.tensor(rows, dtype=torch.float64) for rows in (worked.queries, worked.keys, worked.values)
    )
    theirs = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    np.testing.assert_allclose(worked.outputs, theirs.numpy(), atol=1e-12)


def test_the_worked_example_is_what_the_maps_are_made_by() -> None:
    worked = work()
    np.testing.assert_allclose(softmax_rows(np.array(worked.scaled)), worked.weights, atol=1e-12)
    np.testing.assert_allclose(np.sum(worked.weights, axis=1), 1.0)
    text = as_text(worked)
    assert "0.7071" in text  # 1 / root of 2, the first scaled product
    assert "each row sums to 1" in text


def test_a_bert_looks_both_ways_as_in_transformers(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason=WITHOUT)
    transformers = pytest.importorskip("transformers", reason=WITHOUT)
    import torch

    folder = write_bert(tmp_path / "bert")
    artefact = Catalogue(tmp_path / "models", Models()).import_folder(folder, "bert").path
    reference = transformers.BertModel.from_pretrained(folder, attn_implementation="eager").eval()
    with torch.no_grad():
        expected = reference(torch.tensor([[2, 5, 6, 8, 9, 3]]), output_attentions=True).attentions
    found = attend(load_tokenizer, artefact, "the sun is warm")
    assert found.tokens == ("[CLS]", "the", "sun", "is", "warm", "[SEP]")
    np.testing.assert_allclose(found.weights, np.stack([layer[0].numpy() for layer in expected]), atol=2e-3)
    assert found.weights[0, 0, 0, 5] > 0  # the first token looks at the last


def test_the_maps_are_what_transformers_computes(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason=WITHOUT)
    transformers = pytest.importorskip("transformers", reason=WITHOUT)
    from reference_models import save_reference, torch

    folder, artefact = tmp_path / "hf", tmp_path / "artefact"
    folder.mkdir()
    artefact.mkdir()
    save_reference(folder, "LlamaConfig", {})
    reference = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    convert(folder, artefact, lambda *_: None)
    text = "hello world, hello"
    ids = load_tokenizer(artefact).encode(text)
    with torch.no_grad():
        expected = reference(torch.tensor([ids]), output_attentions=True).attentions
    found = attend(load_tokenizer, artefact, text)
    assert found.weights.shape == (2, 4, len(ids), len(ids))
    np.testing.assert_allclose(found.weights, np.stack([layer[0].numpy() for layer in expected]), atol=2e-3)
    shown = explain(load_tokenizer, artefact, AttentionSpec(model="m", text=text, layers=(1,), heads=(2, 3)))
    assert [(each.layer, each.head) for each in shown.maps] == [(1, 2), (1, 3)]
    assert len(shown.maps[0].weights) == len(ids) ** 2
    with pytest.raises(ValueError, match="2 layers of 4 heads"):
        explain(load_tokenizer, artefact, AttentionSpec(model="m", text=text, layers=(2,)))
    with pytest.raises(ValueError, match="1 to 64 can be shown"):
        attend(load_tokenizer, artefact, "hello world " * 60)


def test_the_picture_is_one(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason=WITHOUT)
    from pileus.cli.explain import draw
    from pileus.evaluation.attention_records import AttentionMap, AttentionResult

    maps = tuple(AttentionMap(0, head, bytes([255, 0, 128, 127])) for head in range(4))
    draw(AttentionResult(model="m", tokens=("a", "$b\n"), layers=1, heads=4, maps=maps), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")

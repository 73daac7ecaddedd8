"""Reading files that may be hostile: refused by name, never a crash, never a read past the end."""

import contextlib
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf.quants import dequantize, quantize
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from made_models import TOKENS
from pileus.core.errors import ModelRefused
from pileus.models.convert.gguf_file import GgufTensor, read_gguf
from pileus.models.convert.quantised import KINDS, unpack
from pileus.models.convert.safetensors_file import read_safetensors


def test_metadata_and_tensors_are_those_that_were_written(tiny_gguf: Path) -> None:
    file = read_gguf(tiny_gguf)
    assert file.metadata["general.architecture"] == "llama"
    assert file.metadata["tokenizer.ggml.tokens"] == TOKENS
    expected = {tensor.name: tensor for tensor in gguf.GGUFReader(tiny_gguf).tensors}
    assert file.tensors.keys() == expected.keys()
    for name, tensor in file.tensors.items():
        np.testing.assert_array_equal(tensor.data.view(np.float32).reshape(tensor.shape), expected[name].data)


def test_a_file_that_is_cut_short_is_refused(tiny_gguf: Path) -> None:
    with tiny_gguf.open("r+b") as file:
        file.truncate(tiny_gguf.stat().st_size - 100)
    with pytest.raises(ModelRefused, match="past the end of the file"):
        read_gguf(tiny_gguf)


def test_attack_33_an_offset_past_the_end_is_refused(tiny_gguf: Path) -> None:
    content = tiny_gguf.read_bytes()
    name = b"blk.0.ffn_down.weight"
    offset_at = content.index(name) + len(name) + struct.calcsize("<IQQI")
    tiny_gguf.write_bytes(content[:offset_at] + struct.pack("<Q", 2**63) + content[offset_at + 8 :])
    with pytest.raises(ModelRefused, match=r"blk\.0\.ffn_down\.weight points past the end"):
        read_gguf(tiny_gguf)


@pytest.mark.parametrize("field_at", [8, 16])
def test_a_huge_count_is_refused_before_anything_is_reserved(tiny_gguf: Path, field_at: int) -> None:
    content = tiny_gguf.read_bytes()
    tiny_gguf.write_bytes(content[:field_at] + struct.pack("<Q", 2**62) + content[field_at + 8 :])
    with pytest.raises(ModelRefused, match="past the end of the file"):
        read_gguf(tiny_gguf)


@pytest.mark.parametrize("content", [b"", b"GGUF", b"PK\x03\x04" + bytes(100), b"GGUF" + struct.pack("<IQQ", 1, 0, 0)])
def test_another_format_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelRefused):
        read_gguf(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(st.data())
def test_a_damaged_file_is_read_or_refused(tiny_gguf: Path, tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(tiny_gguf.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, 1200))] = data.draw(st.integers(0, 255))
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with contextlib.suppress(ModelRefused):
        read_gguf(damaged)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("offset", [0.0, 0.3, -0.3])
def test_weights_are_those_of_the_reference(kind: str, offset: float) -> None:
    """Within a 16th of a step; the offset puts whole groups on one side of zero, where no zero point fits."""
    blocks = _blocks(kind, offset)
    expected = dequantize(blocks, gguf.GGMLQuantizationType[kind])
    weights = unpack(GgufTensor("t", kind, (32, 512), blocks.reshape(-1))).dense()
    exact = kind in ("Q4_0", "Q5_0", "Q8_0")
    np.testing.assert_allclose(weights, expected, atol=0 if exact else 0.004 * np.abs(expected).max())


def _blocks(kind: str, offset: float) -> np.ndarray:
    random = np.random.default_rng(3)
    if not kind.endswith("_K"):
        weights = random.standard_normal((32, 512)).astype(np.float32) * 0.05 + np.float32(offset)
        return quantize(weights, gguf.GGMLQuantizationType[kind])
    blocks = random.integers(0, 256, (64, KINDS[kind].block_bytes), np.uint8)  # the package cannot write these kinds
    for at in {"Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}[kind]:
        blocks[:, at : at + 2] = (random.random((64, 1)) * 0.01).astype(np.float16).view(np.uint8)
    return blocks.reshape(32, -1)


def _safetensors(path: Path, header: bytes, body: bytes = bytes(16)) -> Path:
    path.write_bytes(struct.pack("<Q", len(header)) + header + body)
    return path


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b'{"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 99]}}', "past the end"),
        (b'{"w": {"dtype": "F32", "shape": [4], "data_offsets": [8, 4]}}', "past the end"),
        (b'{"w": {"dtype": "F32", "shape": [5], "data_offsets": [0, 16]}}', "another size"),
        (b'{"w": {"dtype": "F32", "shape": [-2, -2], "data_offsets": [0, 16]}}', "another size"),
        (b'{"w": {"dtype": "F8_E4M3", "shape": [16], "data_offsets": [0, 16]}}', "F8_E4M3"),
        (b'{"w": {"shape": [4]}}', "wrongly"),
        (b'{"w": 3}', "wrongly"),
        (b"[]", "malformed"),
        (b"{", "malformed"),
    ],
)
def test_forged_safetensors_are_refused(tmp_path: Path, header: bytes, reason: str) -> None:
    with pytest.raises(ModelRefused, match=reason):
        read_safetensors(_safetensors(tmp_path / "x.safetensors", header))


def test_safetensors_that_are_cut_short_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", 1000) + b"{}")
    with pytest.raises(ModelRefused, match="cut short"):
        read_safetensors(path)

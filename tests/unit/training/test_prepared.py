from pathlib import Path

import numpy as np
import pytest
from msgspec.json import decode, encode

pytest.importorskip("torch", reason="the `train` extra is not installed: `make extras`")
from pileus.data.shards import MANIFEST, Manifest, Shard
from pileus.data.spec import SPECIAL_TOKENS, TokenizerSpec
from pileus.data.tokenising import train as train_texts
from pileus.training.prepared import about, prepare, tokenizer_of  # stands on PyTorch
from pileus.training.spec import Train
from pileus.training.tokens import train_tokenizer


def write_dataset(folder: Path) -> None:
    """Packed shards of three splits' worth of small numbers, as data preparation writes them."""
    folder.mkdir()
    train_tokenizer(["the cat sat on the mat"], 300, "gpt").backend_tokenizer.save(str(folder / "tokenizer.json"))
    splits = {}
    for name, count in (("train", 100), ("validation", 40)):
        np.arange(count, dtype="<u2").tofile(folder / f"{name}-0.tokens")
        np.array([count], dtype="<u8").tofile(folder / f"{name}-0.ends")
        splits[name] = [Shard(name=f"{name}-0", tokens=count, documents=1, sha256="")]
    manifest = Manifest(
        id="d", width=2, vocabulary=300, end_of_text=0, special_tokens={"<|endoftext|>": 0, "<|pad|>": 1}, splits=splits
    )
    (folder / MANIFEST).write_bytes(encode(manifest))


def test_packed_shards_are_read_with_their_tokenizer_and_their_splits(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set")
    folder = prepare(Train(recipe="gpt", data=(str(tmp_path / "set"),), context=10), tmp_path, None, lambda _: None)
    assert np.load(folder / "train.npy").tolist() == list(range(100))
    assert np.load(folder / "validation.npy").tolist() == list(range(40))
    assert (about(folder).examples, about(folder).held_out) == (9, 3)
    assert (tokenizer_of(folder).eos_token, tokenizer_of(folder).pad_token) == ("<|endoftext|>", "<|pad|>")


def test_an_encoder_has_its_special_tokens_of_what_datasets_call_them(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set")
    tokenizer = train_texts(["the cat sat on the mat"], TokenizerSpec(vocabulary=280))
    tokenizer.save(str(tmp_path / "set" / "tokenizer.json"))
    manifest = decode((tmp_path / "set" / MANIFEST).read_bytes())
    manifest["special_tokens"] = {token: tokenizer.token_to_id(token) for token in SPECIAL_TOKENS}
    (tmp_path / "set" / MANIFEST).write_bytes(encode(manifest))
    folder = prepare(Train(recipe="bert", data=(str(tmp_path / "set"),), context=10), tmp_path, None, lambda _: None)
    kept = tokenizer_of(folder)
    assert (kept.mask_token, kept.pad_token, kept.unk_token) == ("<|mask|>", "<|pad|>", "<|unk|>")
    ids = kept("the cat")["input_ids"]
    assert kept.convert_ids_to_tokens([ids[0], ids[-1]]) == ["<|cls|>", "<|sep|>"]


def test_a_folder_that_was_prepared_stays_as_it_is(tmp_path: Path) -> None:
    text = tmp_path / "a.txt"
    text.write_text("the cat sat on the mat " * 40)
    spec = Train(recipe="gpt", data=(str(text),), context=8, vocabulary=280)
    ids = np.load(prepare(spec, tmp_path, None, lambda _: None) / "train.npy").tolist()
    text.write_text("something else")
    assert np.load(prepare(spec, tmp_path, None, lambda _: None) / "train.npy").tolist() == ids

from pathlib import Path

import numpy as np
import pytest
from msgspec import convert

pytest.importorskip("torch", reason="the `train` extra is not installed: `make extras`")
from pileus.data import tokenising
from pileus.data.spec import TokenizerSpec
from pileus.jobs.handler import JobFailed
from pileus.training.prepared import about, prepare, tokenizer_of  # stands on PyTorch
from pileus.training.spec import Train
from pileus.training.tokens import train_tokenizer
from unit.training.corpus import write_dataset


def test_packed_shards_are_read_with_their_tokenizer_and_their_splits(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set")
    folder = prepare(Train(recipe="gpt", data=(str(tmp_path / "set"),), context=10), tmp_path, None, lambda _: None)
    assert np.load(folder / "train.npy").tolist() == list(range(100))
    assert np.load(folder / "validation.npy").tolist() == list(range(40))
    assert (about(folder).examples, about(folder).held_out) == (9, 3)
    assert (tokenizer_of(folder).eos_token, tokenizer_of(folder).pad_token) == ("<|endoftext|>", "<|pad|>")


def test_a_folder_that_was_prepared_stays_as_it_is(tmp_path: Path) -> None:
    text = tmp_path / "a.txt"
    text.write_text("the cat sat on the mat " * 40)
    spec = Train(recipe="gpt", data=(str(text),), context=8, vocabulary=280)
    ids = np.load(prepare(spec, tmp_path, None, lambda _: None) / "train.npy").tolist()
    text.write_text("something else")
    assert np.load(prepare(spec, tmp_path, None, lambda _: None) / "train.npy").tolist() == ids


def test_a_dataset_is_copied_in_parts_and_a_damaged_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pileus.training.prepared._AT_ONCE", 7)
    write_dataset(tmp_path / "set")
    spec = Train(recipe="gpt", data=(str(tmp_path / "set"),), validation=(str(tmp_path / "a.txt"),), context=10)
    (tmp_path / "a.txt").write_text("the cat sat")
    folder = prepare(spec, tmp_path, None, lambda _: None)
    assert np.load(folder / "train.npy").tolist() == list(range(100))
    with (tmp_path / "set" / "train-0.tokens").open("ab") as tokens:
        tokens.write(b"x")
    (tmp_path / "again").mkdir()
    with pytest.raises(JobFailed, match="not as it was made"):
        prepare(spec, tmp_path / "again", None, lambda _: None)


def test_an_encoder_learns_from_what_data_preparation_packs(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set", tokenising.train(["the cat sat on the mat"], TokenizerSpec(vocabulary=264)))
    spec = Train(recipe="bert", data=(str(tmp_path / "set"),), context=10)
    tokenizer = tokenizer_of(prepare(spec, tmp_path, None, lambda _: None))
    assert (tokenizer.mask_token, tokenizer.pad_token, tokenizer.eos_token) == ("<|mask|>", "<|pad|>", "<|endoftext|>")
    around = tokenizer("the cat")["input_ids"]
    assert tokenizer.convert_ids_to_tokens([around[0], around[-1]]) == ["<|cls|>", "<|sep|>"]


@pytest.mark.parametrize("recipe", ["gpt", "bert"])
def test_a_tokenizer_that_data_preparation_trained_serves_for_texts_too(tmp_path: Path, recipe: str) -> None:
    file, text = tmp_path / "tokenizer.json", tmp_path / "a.txt"
    tokenising.train(["the cat sat on the mat"], TokenizerSpec(vocabulary=264)).save(str(file))
    text.write_text("the cat sat on the mat " * 40)
    spec = Train(recipe=recipe, data=(str(text),), tokenizer=str(file), context=8)
    tokenizer = tokenizer_of(prepare(spec, tmp_path, None, lambda _: None))
    assert tokenizer.pad_token == "<|pad|>"
    assert (tokenizer.eos_token, tokenizer.cls_token) == (
        ("<|endoftext|>", None) if recipe == "gpt" else (None, "<|cls|>")
    )


def test_a_dataset_of_another_tokenizer_than_the_base_s_is_refused(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set")
    train_tokenizer(["something else " * 9], 300, "gpt").save_pretrained(tmp_path / "base")
    spec = Train(recipe="gpt", data=(str(tmp_path / "set"),), context=10)
    with pytest.raises(JobFailed, match="with another tokenizer"):
        prepare(spec, tmp_path, tmp_path / "base", lambda _: None)
    (tmp_path / "base" / "tokenizer.json").write_bytes((tmp_path / "set" / "tokenizer.json").read_bytes())
    prepare(spec, tmp_path, tmp_path / "base", lambda _: None)


def test_a_vocabulary_beside_a_dataset_which_has_its_own_is_refused(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set")
    spec = Train(recipe="gpt", data=(str(tmp_path / "set"),), context=10, vocabulary=4096)  # also the usual one
    with pytest.raises(JobFailed, match="`vocabulary` should be left out") as refused:
        prepare(spec, tmp_path, None, lambda _: None)
    assert refused.value.code == "bad_data"


def test_a_label_that_one_row_has_is_learnt_and_not_held_out(tmp_path: Path) -> None:
    rows = [("a cat", "yes"), ("a dog", "no"), ("a mat", "rare"), ("the mat", "yes"), ("the cat", "no"), ("a", "no")]
    (tmp_path / "rows.tsv").write_text("".join(f"{text}\t{label}\n" for text, label in rows))
    spec = Train(recipe="classifier", data=(str(tmp_path / "rows.tsv"),), holdout=1 / 3, vocabulary=280)
    found = about(prepare(spec, tmp_path, None, lambda _: None))
    assert (found.examples, found.held_out, found.labels) == (5, 1, ("no", "rare", "yes"))


@pytest.mark.parametrize("recipe", ["gpt", "classifier"])
def test_a_folder_of_files_is_refused_and_said_how_it_could_be_learnt_from(tmp_path: Path, recipe: str) -> None:
    (tmp_path / "texts").mkdir()
    spec = Train(recipe=recipe, data=(str(tmp_path / "texts"),))
    with pytest.raises(JobFailed, match="texts is a folder: name its files"):
        prepare(spec, tmp_path, None, lambda _: None)


@pytest.mark.parametrize(("recipe", "files"), [("gpt", ["set", "a.txt"]), ("classifier", ["set"])])
def test_a_dataset_is_taken_by_itself_and_by_recipes_of_text(tmp_path: Path, recipe: str, files: list[str]) -> None:
    write_dataset(tmp_path / "set")
    spec = Train(recipe=recipe, data=tuple(str(tmp_path / file) for file in files))
    with pytest.raises(JobFailed, match="is a prepared dataset: `gpt` and `bert` take one"):
        prepare(spec, tmp_path, None, lambda _: None)


@pytest.mark.parametrize(
    ("recipe", "field", "value"),
    [("gpt", "architecture", "lstm"), ("classifier", "masked", 0.3), ("encoder", "label_smoothing", 0.1)],
)
def test_a_field_that_the_recipe_does_not_have_is_refused(recipe: str, field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"`{field}` should be left out: only"):
        convert({"recipe": recipe, "data": ["a.txt"], field: value}, Train)

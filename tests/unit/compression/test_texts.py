from pathlib import Path

import pytest

from pileus.compression import texts
from pileus.jobs.handler import JobFailed


def test_the_two_sentences_of_a_pair_differ_in_the_verb_alone() -> None:
    for pair in texts.pairs(200, 1):
        right, wrong = pair.right.split(), pair.wrong.split()
        (differing,) = [place for place, words in enumerate(zip(right, wrong, strict=True)) if words[0] != words[1]]
        assert right[differing].rstrip("s") == wrong[differing].rstrip("s")


def test_a_singular_subject_has_a_verb_in_s() -> None:
    singular = {pair.right for pair in texts.pairs(500, 1) if pair.right.startswith(("The dog ", "The king "))}
    assert singular
    verbs = {word for sentence in singular for word in sentence.split()}
    assert verbs & {"walks", "waits", "sleeps", "sings", "lives", "returns", "works", "plays"}


def test_what_is_written_depends_on_the_seed_alone() -> None:
    assert texts.written(3_000, 5) == texts.written(3_000, 5) != texts.written(3_000, 6)
    assert len(texts.written(3_000, 5)) >= 3_000


def test_test_items_are_not_those_of_another_seed() -> None:
    seen = {pair.right for pair in texts.pairs(100, 1)}
    assert len(seen & {pair.right for pair in texts.pairs(100, 2)}) < 20


def test_a_text_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match="cannot be read"):
        texts.read(str(tmp_path / "none.txt"))
    (tmp_path / "empty.txt").write_text(" \n")
    with pytest.raises(JobFailed, match="is empty"):
        texts.read(str(tmp_path / "empty.txt"))
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(JobFailed, match="cannot be read"):
        texts.read(str(tmp_path / "binary.txt"))

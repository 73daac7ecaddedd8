"""Equal and nearly equal documents, over several pieces and in little memory."""

from pathlib import Path

import numpy as np
import pytest

from pileus.data import minhash
from pileus.data.cleaning import Account, Cleaner
from pileus.data.contamination import Contamination, runs_of
from pileus.data.duplicates import EXACT, KEPT, NEAR, Fates, Places, exact_duplicates, near_duplicates
from pileus.data.heap import Heap
from pileus.data.records import Document
from pileus.data.spec import DataSpec
from pileus.data.words import words_of
from unit.data.texts import chinese, english, like

PLENTY = 1 << 30
NOTHING = Contamination(runs_of(()))


def heaps(folder: Path, *pieces: list[str]) -> list[Heap]:
    cleaner = Cleaner(DataSpec(inputs=("x",), out="y", rules=None, personal=False), NOTHING)
    made = []
    for number, texts in enumerate(pieces):
        account = Account()
        made.append(Heap(folder, number, near=True))
        made[-1].write(cleaner.clean([Document(text, "here") for text in texts], account), account)
    return made


def found(folder: Path, *pieces: list[str], memory_bytes: int = PLENTY, similarity: float = 0.8) -> list[list[int]]:
    places = Places(heaps(folder, *pieces))
    fates: Fates = np.zeros(len(places), np.uint8)
    exact_duplicates(places, fates, memory_bytes)
    near_duplicates(places, fates, similarity, memory_bytes, lambda done, total: None)
    return [fate.tolist() for fate in places.split(fates)]


@pytest.mark.parametrize("memory_bytes", [PLENTY, 1 << 7])
def test_the_first_of_equal_documents_stays(tmp_path: Path, memory_bytes: int) -> None:
    a, b, c = english(1), chinese(2), english(3)
    assert found(tmp_path, [a, b], [c, a], [b, english(4)], memory_bytes=memory_bytes) == [
        [KEPT, KEPT],
        [KEPT, EXACT],
        [EXACT, KEPT],
    ]


@pytest.mark.parametrize("memory_bytes", [PLENTY, 1 << 8])
def test_the_first_of_nearly_equal_documents_stays(tmp_path: Path, memory_bytes: int) -> None:
    a, b = english(1, 400), chinese(2, 400)
    near_a, near_b = like(a, 0.01), b[:200] + "书" + b[200:]
    far_a = like(a, 0.2)
    assert found(tmp_path, [a, b, far_a], [near_b, english(5), near_a], memory_bytes=memory_bytes) == [
        [KEPT, KEPT, KEPT],
        [NEAR, KEPT, NEAR],
    ]


def test_what_is_similar_the_spec_says(tmp_path: Path) -> None:
    a = english(1, 400)
    other = like(a, 0.02)
    similarity = minhash.jaccard(words_of(a), words_of(other))
    assert found(tmp_path / "1", [a, other], similarity=similarity - 0.01) == [[KEPT, NEAR]]
    assert found(tmp_path / "2", [a, other], similarity=similarity + 0.01) == [[KEPT, KEPT]]


def test_a_piece_without_documents_is_none_s_duplicate(tmp_path: Path) -> None:
    assert found(tmp_path, [], [english(1)], []) == [[], [KEPT], []]


def test_texts_come_back_as_they_were(tmp_path: Path) -> None:
    texts = [english(1), chinese(2), "x " * 9 + "é"]
    (heap,) = heaps(tmp_path, texts)
    assert [heap.text(place) for place in range(3)] == texts
    assert list(heap.texts(np.array([True, False, True]))) == texts[::2]
    assert len(heap) == heap.account.kept == 3


def test_an_estimate_is_near_the_similarity() -> None:
    for number, changed in enumerate((0.0, 0.02, 0.05, 0.2)):
        one = words_of(english(number, 500))
        other = words_of(like(english(number, 500), changed))
        estimate = minhash.estimate(minhash.signature(one), minhash.signature(other))
        assert estimate == pytest.approx(minhash.jaccard(one, other), abs=0.15)


def test_at_least_95_of_100_pairs_of_a_similarity_of_80_percent_are_candidates() -> None:
    hits = pairs = 0
    for number in range(400):
        one = words_of(english(number, 300))
        other = words_of(like(english(number, 300), 0.023, number))
        if 0.8 <= minhash.jaccard(one, other) < 0.83:
            pairs += 1
            signatures = np.stack([minhash.signature(one), minhash.signature(other)])
            first, second = minhash.bands(signatures)
            hits += bool((first == second).any())
    assert pairs >= 40
    assert hits >= 0.95 * pairs

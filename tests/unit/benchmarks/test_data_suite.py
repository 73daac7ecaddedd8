"""What the suite on preparing data measures, on little data."""

import random
from pathlib import Path

import pytest

from benchmarks.made_texts import CHINESE_EVERY, DUPLICATE_EVERY, document, documents, edited
from benchmarks.suites import data


def test_the_same_number_makes_the_same_document_and_some_come_twice() -> None:
    made = [document(number) for number in range(5 * DUPLICATE_EVERY)]
    assert made == [document(number) for number in range(5 * DUPLICATE_EVERY)]
    assert len(made) - len(set(made)) == 4
    assert any("\u4e00" <= character <= "\u9fff" for character in made[CHINESE_EVERY - 1])
    assert made[1].isascii()


def test_as_much_is_made_as_is_wanted() -> None:
    assert 100_000 <= sum(map(len, documents(100_000))) < 110_000


def test_what_is_made_passes_all_filters_and_equal_ones_are_found() -> None:
    figures = data.speed(1, 1)
    assert figures["mb_per_s"] > 0
    assert figures["exact_duplicates"] == figures["documents"] // DUPLICATE_EVERY
    assert figures["kept_percent"] == pytest.approx(100 - 100 / DUPLICATE_EVERY, abs=0.5)


def test_near_duplicates_from_80_percent_on_are_found_and_no_others() -> None:
    figures = data.near(300, 1)
    assert figures["recall_percent"] >= 95
    assert figures["precision_percent"] == 100
    assert figures["wrong_firsts"] == 0


def test_an_edited_text_is_similar() -> None:
    text = document(1)
    assert edited(text, 0.0, random.Random(1)) == text
    assert edited(text, 0.05, random.Random(1)) != text


def test_equal_documents_are_found_over_all_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "_PIECE_BYTES", 500_000)
    monkeypatch.setattr(data, "_DOCUMENTS_BETWEEN", 100)  # so that the pieces have many in common
    data.fill(tmp_path, range(4))
    figures = data.deduplicate(tmp_path)
    assert figures["exact_duplicates"] > 100
    assert figures["documents"] > figures["exact_duplicates"]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_input() -> None:
    little, much = (data.memory(megabytes, 1)["peak_mib"] for megabytes in (70, 700))
    assert much < 1.2 * little

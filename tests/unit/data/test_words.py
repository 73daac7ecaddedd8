"""Words as numbers."""

import numpy as np
import pytest

from pileus.data.words import runs, words_of


def test_the_same_word_has_the_same_number_whatever_stands_around_it() -> None:
    one, other = words_of("The cloud, the CLOUD!"), words_of("cloud")
    assert one.numbers[0] == one.numbers[2]
    assert one.numbers[1] == one.numbers[3] == other.numbers[0]
    assert words_of("clouds").numbers[0] != other.numbers[0]


def test_beyond_ascii_words_have_the_same_numbers() -> None:
    assert words_of("naïve cloud").numbers[1] == words_of("cloud").numbers[0]
    assert words_of("ÉTÉ").numbers[0] == words_of("été").numbers[0]


def test_a_chinese_character_is_a_word_and_punctuation_is_none() -> None:
    words = words_of("你好，world 你")
    assert len(words) == 4
    assert words.alone == 3
    assert words.numbers[0] == words.numbers[3]
    assert words.is_ideographic
    assert words_of("world").numbers[0] == words.numbers[2]


@pytest.mark.parametrize("text", ["", "   ", "... !?", "\n"])
def test_a_text_without_words_has_none(text: str) -> None:
    assert len(words_of(text)) == 0


def test_letters_and_blanks_are_counted() -> None:
    words = words_of("a bc, d\n")
    assert (words.letters, words.blanks) == (4, 3)


def test_long_texts_are_the_same_as_their_parts() -> None:
    text = "cloud " * 30_000
    assert len(words_of(text)) in range(30_000, 30_004)  # of which a few lie across two blocks
    assert np.count_nonzero(words_of(text).numbers == words_of("cloud").numbers[0]) >= 29_996


def test_equal_runs_have_equal_numbers_and_others_have_others() -> None:
    found = runs(words_of("a b c x a b c").numbers, 3)
    assert len(found) == 5
    assert found[0] == found[4]
    assert len(set(found.tolist())) == 4
    assert len(runs(found, 6)) == 0


def test_the_numbers_are_the_same_on_every_machine() -> None:
    assert words_of("cloud 云").numbers.tolist() == [7754186760644833821, 5491515695139871167]

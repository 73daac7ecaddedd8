"""Each rule of quality is broken by a document made for it, and by it alone."""

import random

import pytest
from msgspec.structs import replace

from pileus.data.quality import Rules, broken_rule
from pileus.data.words import words_of
from unit.data.texts import ENGLISH, chinese, english


def rule(text: str, rules: Rules = Rules(), languages: tuple[str, ...] = ()) -> str:  # noqa: B008  # it is frozen
    return broken_rule(text, words_of(text), rules, languages)


@pytest.mark.parametrize("text", [english(1), chinese(1), english(1, 60) + "\n" + chinese(1, 60)])
def test_an_ordinary_document_keeps_all_rules(text: str) -> None:
    assert rule(text) == ""


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("far too short", "too_short"),
        ("a I " * 100 + english(1, 20), "word_length"),
        (english(1, 100) + " " + "=+*& " * 300, "letters"),
        (" ".join(f"#{word}" for word in ENGLISH[:55] * 2), "symbols"),
        (english(1) + " { } { } { }", "braces"),
        (english(1) + " \ufffd\ufffd\ufffd", "lost_characters"),
        (chinese(1) + "锟斤拷锟斤拷", "lost_characters"),
        (english(1) + " Lorem ipsum dolor", "lorem_ipsum"),
        ("\n".join([*[english(1, 20)] * 5, english(3, 20)]), "repeated_lines"),
        ("\n".join(f"- {english(seed, 20)}" for seed in range(10)), "bullets"),
        ("\n".join(f"{english(seed, 20)}..." for seed in range(10)), "ellipses"),
        (" ".join(str(random.Random(5).randrange(10**6)) + word for word in map(str, range(1000, 1200))), "stop_words"),
        ("the and " + english(1, 60) + " buy now" * 30, "top_2_words"),
        (chinese(1, 60) + "立刻购买" * 30, "top_2_words"),
        (english(1, 60) + " " + (english(9, 45) + " ") * 2, "repeated_5_words"),
    ],
)
def test_a_document_that_breaks_a_rule_is_left_out_by_it(text: str, broken: str) -> None:
    assert rule(text) == broken


def test_a_bound_is_the_spec_s() -> None:
    assert rule("the and " + english(1, 10), replace(Rules(), min_words=5)) == ""
    assert rule(english(1, 200), replace(Rules(), max_words=100)) == "too_long"
    assert rule("the and " + english(1, 60) + " buy now" * 30, replace(Rules(), repetition=False)) == ""


def test_stop_words_are_those_of_the_asked_languages() -> None:
    assert rule(english(1), languages=("de",)) == "stop_words"
    assert rule(english(1), languages=("de", "en")) == ""
    assert rule(english(1), languages=("fi",)) == ""  # nobody knows its stop words

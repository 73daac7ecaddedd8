"""One way of writing for what means the same."""

import unicodedata

import pytest

from pileus.data.boilerplate import without_notices
from pileus.data.normalise import normalise


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("a\r\nb\rc", "a\nb\nc"),
        ("a\n\n\n\n b", "a\n\n b"),
        ("a \t\n  \n\nb", "a\n\nb"),
        ("soft\u00adhyphen zero\u200bwidth \ufeffmark", "softhyphen zerowidth mark"),
        ("a\u00a0b\u2009c", "a b c"),
        ("bell\x07 nul\x00", "bell nul"),
        ("x\u2028y\x85z\x0cw", "x\ny\nz\nw"),
        (unicodedata.normalize("NFD", "é가"), "é가"),
        ("  def f():\n      pass  ", "def f():\n      pass"),
    ],
)
def test_texts_become_one_form(given: str, wanted: str) -> None:
    assert normalise(given) == wanted
    assert normalise(wanted) == wanted


def test_a_million_blanks_are_no_work() -> None:
    assert normalise("a" + " " * 1_000_000 + "b \nc") == "a" + " " * 1_000_000 + "b\nc"


def test_short_lines_that_are_notices_are_taken_out() -> None:
    text = "The weather was fine.\n© 2024 Example. All rights reserved.\n我们出发了。\n版权所有 未经授权不得转载"
    assert without_notices(text) == "The weather was fine.\n我们出发了。"


def test_a_long_line_that_speaks_of_a_notice_stays() -> None:
    text = "He wrote at length on what a privacy policy is, " + "and what it is not, " * 10
    assert without_notices(text) == text

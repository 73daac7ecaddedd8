"""Ids to text, with stop strings held back until they are decided."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from pileus.gateway.text import TextStream


class Letters:
    """A detokenizer for which a token is a character."""

    def push(self, tokens: Sequence[int]) -> str:
        return "".join(map(chr, tokens))

    def flush(self) -> str:
        return ""


def shown(text: str, stops: Sequence[str]) -> tuple[list[str], bool]:
    stream = TextStream(Letters(), stops)
    parts = []
    for letter in text:
        parts.append(stream.push(ord(letter)))
        if stream.stopped:
            break
    parts.append(stream.flush())
    return parts, stream.stopped


def test_text_before_a_stop_string_is_shown_and_nothing_after_it() -> None:
    assert shown("one. END two", ["END"]) == ([*list("one. "), "", "", "", ""], True)


def test_the_beginning_of_a_stop_string_is_held_back_and_given_when_it_was_none() -> None:
    parts, stopped = shown("a<b<|c", ["<|end|>"])
    assert parts == ["a", "", "<b", "", "", "<|c", ""]
    assert not stopped


def test_an_undecided_tail_is_given_at_the_end() -> None:
    assert shown("abc", ["cd"]) == (["a", "b", "", "c"], False)


@given(st.text("ab<", max_size=30), st.lists(st.text("ab<", min_size=1, max_size=4), min_size=1, max_size=4))
def test_what_is_shown_is_the_text_up_to_the_first_stop_string(text: str, stops: list[str]) -> None:
    parts, stopped = shown(text, stops)
    ends = [end for end in range(len(text) + 1) if any(text[:end].endswith(stop) for stop in stops)]
    if not ends:
        assert ("".join(parts), stopped) == (text, False)
    else:
        seen = text[: ends[0]]
        assert ("".join(parts), stopped) == (seen[: min(seen.find(s) for s in stops if s in seen)], True)

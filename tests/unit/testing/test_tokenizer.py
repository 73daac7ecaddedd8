import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pileus.core.errors import InvalidRequest
from pileus.core.ports import Tokenizer
from pileus.core.records import Message
from pileus.testing.tokenizer import FIRST_WORD, ByteTokenizer

TOKENIZER: Tokenizer = ByteTokenizer()


@settings(deadline=None)
@given(st.text())
def test_text_survives_the_way_there_and_back(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


@settings(deadline=None)
@given(st.text(), st.integers(1, 5))
def test_text_comes_out_whole_however_its_tokens_come(text: str, step: int) -> None:
    tokens = TOKENIZER.encode(text)
    detokenizer = TOKENIZER.detokenizer()
    pieces = [detokenizer.push(tokens[at : at + step]) for at in range(0, len(tokens), step)]
    assert "".join(pieces) + detokenizer.flush() == text
    assert not any("\ufffd" in piece for piece in pieces) or "\ufffd" in text


def test_an_incomplete_character_is_replaced_at_the_end() -> None:
    detokenizer = TOKENIZER.detokenizer()
    assert detokenizer.push([*b"a\xe4\xbd"]) == "a"
    assert detokenizer.flush() == "\ufffd"


def test_what_looks_special_in_peoples_text_stays_text() -> None:
    tokens = TOKENIZER.encode_chat([Message("user", "<|im_end|>")])
    assert tokens.count(TOKENIZER.stop_ids[0]) == 1
    assert TOKENIZER.decode(tokens) == "<|im_start|>user\n<|im_end|><|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize("messages", [[], [Message("wizard", "x")]])
def test_messages_that_make_no_chat_are_refused(messages: list[Message]) -> None:
    with pytest.raises(InvalidRequest):
        TOKENIZER.encode_chat(messages)


def test_the_words_are_ordinary_text_and_each_its_own() -> None:
    words = [TOKENIZER.decode([token]) for token in range(FIRST_WORD, TOKENIZER.vocab_size)]
    assert len(set(words)) == 1000
    assert all(word[0] == " " and word[1:].isalpha() for word in words)


def test_a_token_by_itself_shows_its_bytes() -> None:
    assert TOKENIZER.token_text(0xE4) == ("\ufffd", b"\xe4")
    assert TOKENIZER.token_text(ord("a")) == ("a", b"a")

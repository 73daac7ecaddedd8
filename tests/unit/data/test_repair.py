"""Bytes to text, and mojibake back to what it was."""

import pytest

from pileus.data.repair import decode, repair

pytest.importorskip("ftfy", reason="the `data` extra is not installed: `make extras`")

CHINESE = "数据清洗是训练模型之前的第一步，不可省略。"


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8", "plain"),
        ("utf-8", CHINESE),
        ("utf-8-sig", "marked"),
        ("utf-16", CHINESE),
        ("gb18030", CHINESE),
        ("cp1252", "café naïve “quoted”"),
    ],
)
def test_bytes_are_read_in_the_encoding_that_they_are_in(encoding: str, text: str) -> None:
    assert decode(text.encode(encoding))[0] == text


def test_a_text_that_was_cut_within_a_character_keeps_the_rest() -> None:
    assert decode("数据".encode()[:-1])[0] == "数"


def test_bytes_of_no_encoding_are_told_by_replacement_characters() -> None:
    assert "\ufffd" in decode(b"ab\x81\x8d\xff\xfe\x90 c")[0]


@pytest.mark.parametrize("text", ["The café’s naïve façade", CHINESE, "it’s – and that’s it", "Ünïcödé für alle"])
def test_text_that_was_decoded_wrongly_is_restored(text: str) -> None:
    broken = text.encode().decode("latin-1")
    assert broken != text
    assert repair(broken) == text


def test_text_that_was_decoded_as_windows_1252_is_restored() -> None:
    assert repair("The cafÃ©â€™s faÃ§ade â€“ and more") == "The café’s façade – and more"


def test_chinese_that_was_read_as_gbk_is_restored() -> None:
    text = "你好世界数据清洗" * 20
    assert text.encode().decode("gb18030").startswith("浣犲ソ")
    assert repair(text.encode().decode("gb18030")) == text


@pytest.mark.parametrize(
    "text",
    [
        "plain ASCII",
        CHINESE,
        "café déjà vu: «Ça va?» à côté",
        "Ärger über Öl",
        "日本語のテスト",
        "🎉 — dashes…",
    ],
)
def test_sound_text_is_left_alone(text: str) -> None:
    assert repair(text) == text

"""Personal data in English and Chinese, planted, and what only looks like it."""

import pytest

from pileus.data.personal import is_chinese_id, is_iban, is_luhn, without_personal


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Write to joe.doe+news@mail.example.com today.", "EMAIL"),
        ("发邮件至zhang.san@example.cn即可", "EMAIL"),
        ("Call (212) 555-0187 now", "PHONE"),
        ("Call +49 30 1234567 now", "PHONE"),
        ("Call 1-800-555-0199.", "PHONE"),
        ("手机13812345678。", "PHONE"),
        ("手机138-1234-5678，", "PHONE"),
        ("电话：+86 138 1234 5678", "PHONE"),
        ("座机010-62345678。", "PHONE"),
        ("card 4111 1111 1111 1111 please", "CARD"),
        ("银行卡6222021234567890128已绑定", "CARD"),
        ("pay to DE89 3704 0044 0532 0130 00 soon", "IBAN"),
        ("GB82WEST12345698765432", "IBAN"),
        ("身份证11010519491231002X，", "ID_NUMBER"),
        ("from 192.168.1.17 at", "IP"),
        ("host 2001:db8::8a2e:370:7334 is up", "IP"),
    ],
)
def test_personal_data_is_replaced_by_its_kind(text: str, kind: str) -> None:
    cleaned, found = without_personal(text)
    assert found == {kind: 1}
    assert f"<{kind}>" in cleaned
    assert not any(digit in cleaned for digit in "3456")


@pytest.mark.parametrize(
    "text",
    [
        "On 2024-01-15 at 12:30:45, from 1990-1995",
        "1,234,567 and 1234567890, 3.14159265358979",
        "card 4111 1111 1111 1112 has a wrong check digit",
        "身份证110105194912310021",
        "DE89 3704 0044 0532 0130 01",
        "ISBN 978-3-16-148410-0 and page 1234-5678",
        "an @ sign and a @handle, or a@b",
        "version 300.1.2.3",
    ],
)
def test_other_numbers_stay(text: str) -> None:
    assert without_personal(text) == (text, {})


def test_check_digits() -> None:
    assert is_luhn("4111111111111111")
    assert not is_luhn("4111111111111112")
    assert is_iban("DE89370400440532013000")
    assert not is_iban("DE88370400440532013000")
    assert is_chinese_id("11010519491231002X")
    assert not is_chinese_id("110105194912310020")
    assert not is_chinese_id("11010519491331002X")  # no month 13

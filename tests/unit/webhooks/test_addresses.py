"""Which addresses a webhook may have."""

from ipaddress import ip_address

import pytest

from pileus.webhooks.addresses import AddressRefused, Unresolved, is_public, port_of, read_url, resolve, resolve_public


@pytest.mark.parametrize(
    "text",
    [
        "8.8.8.8",
        "2606:4700::1111",
        "::ffff:8.8.8.8",  # the same as the first
        "64:ff9b::808:808",
    ],
)
def test_an_address_of_the_internet_is_public(text: str) -> None:
    assert is_public(ip_address(text))


@pytest.mark.parametrize(
    "text",
    [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "127.255.255.254",
        "168.63.129.16",
        "169.254.169.254",
        "172.16.0.1",
        "192.0.0.192",
        "192.168.1.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "::ffff:127.0.0.1",
        "::ffff:a9fe:a9fe",
        "64:ff9b::a00:1",
        "64:ff9b:1::a00:1",
        "2001:0:808:808:0:0:80ff:fffe",  # for 127.0.0.1 by Teredo
        "2002:7f00:1::1",
        "2002:808:808::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fec0::1",
        "ff02::1",
    ],
)
def test_an_address_for_few_is_not_public_however_it_is_written(text: str) -> None:
    assert not is_public(ip_address(text))


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("https://example.com/hook?a=b", "example.com", 443),
        ("http://EXAMPLE.com:8080", "example.com", 8080),
        ("http://[2606:4700::1111]/", "2606:4700::1111", 80),
        ("https://my_host.internal", "my_host.internal", 443),
        ("https://127.0.0.1:1/", "127.0.0.1", 1),  # in its usual form; whether it may be is another's to say
    ],
)
def test_a_url_is_read_as_it_will_be_used(text: str, host: str, port: int) -> None:
    url = read_url(text)
    assert (url.host, port_of(url)) == (host, port)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "example.com",
        "file:///etc/passwd",
        "gopher://example.com/",
        "https://",
        "https:///x",
        "https://user@example.com/",
        "https://example.com/#part",
        "https://example.com\\@127.0.0.1/",
        "https://example.com/\r\nx: y",
        "https://exam ple.com/",
        "https://example.com/a b",
        "https://example.com/a\\b",
        "https://\u2460.com/",
        "https://example.com:0/",
        "https://example.com:65536/",
        "https://example.com./",
        "https://localhost./",
        "https://a..b/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0177.0.0.1/",
        "https://127.1/",
        "https://127%2e0.0.1/",
        "https://[fe80::1%25eth0]/",
        "https://example.com/" + "x" * 2048,
    ],
)
def test_a_url_that_two_could_read_differently_is_refused(text: str) -> None:
    with pytest.raises(AddressRefused) as caught:
        read_url(text)
    assert caught.value.param == "url"


async def test_a_name_has_the_addresses_of_this_machine_and_those_are_not_public() -> None:
    assert set(await resolve("localhost", 80)) <= {"127.0.0.1", "::1"}
    with pytest.raises(AddressRefused):
        await resolve_public("localhost", 80)


async def test_one_address_that_is_not_public_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    async def both(host: str, port: int) -> list[str]:
        return ["8.8.8.8", "10.0.0.1"]

    monkeypatch.setattr("pileus.webhooks.addresses.resolve", both)
    with pytest.raises(AddressRefused):
        await resolve_public("example.com", 443)


async def test_a_name_without_an_address_is_told() -> None:
    with pytest.raises(Unresolved):
        await resolve("nobody.invalid", 80)

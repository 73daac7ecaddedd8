"""Wrong keys from one place are bounded, and so is what is remembered of them."""

from hypothesis import given
from hypothesis import strategies as st

from pileus.security.guesses import Guesses, network_of


def test_wrong_keys_beyond_the_limit_are_told_when_the_window_ends() -> None:
    guesses = Guesses(limit=3, window_s=60)
    assert [guesses.wrong("10.0.0.1", now) for now in (0.0, 1.0, 2.0)] == [None] * 3
    assert [guesses.wrong("10.0.0.1", now) for now in (3.0, 59.0)] == [57.0, 1.0]
    assert guesses.wrong("10.0.0.1", 60.0) is None


def test_each_address_has_a_window_of_its_own() -> None:
    guesses = Guesses(limit=1, window_s=60)
    assert guesses.wrong("10.0.0.1", 0.0) is None
    assert guesses.wrong("10.0.0.2", 30.0) is None
    assert guesses.wrong("10.0.0.1", 30.0) == 30.0
    assert guesses.wrong("10.0.0.2", 30.0) == 60.0


def test_an_attacker_with_many_addresses_fills_no_memory_and_the_latest_windows_stay() -> None:
    guesses = Guesses(limit=1, window_s=60, max_networks=100)
    for n in range(100_000):
        guesses.wrong(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", now=n * 1e-4)
    assert len(guesses) == 100
    assert guesses.wrong(f"10.1.{99_999 >> 8 & 255}.{99_999 & 255}", 10.0) is not None
    assert guesses.wrong("10.0.0.0", 10.0) is None


def test_the_window_that_began_first_is_forgotten_first() -> None:
    guesses = Guesses(limit=1, window_s=60, max_networks=3)
    for address, now in (("10.0.0.1", 0.0), ("10.0.0.2", 50.0), ("10.0.0.1", 60.0), ("10.0.0.3", 61.0)):
        assert guesses.wrong(address, now) is None
    assert guesses.wrong("10.0.0.4", 62.0) is None  # takes the place of the second, whose window is the oldest
    assert guesses.wrong("10.0.0.1", 62.0) == 58.0
    assert guesses.wrong("10.0.0.2", 62.0) is None


def test_who_may_choose_an_address_is_one_network() -> None:
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:0:0:2") == "2001:db8::"
    assert network_of("2001:db8:0:1::1") != network_of("2001:db8::1")
    assert network_of("::ffff:10.0.0.1") == network_of("10.0.0.1")
    assert network_of("::ffff:10.0.0.2") != network_of("10.0.0.1")
    assert network_of("") == ""


@given(times=st.lists(st.floats(0, 600), max_size=200).map(sorted), limit=st.integers(1, 10))
def test_no_window_lets_more_than_its_limit_pass(times: list[float], limit: int) -> None:
    guesses = Guesses(limit, window_s=60)
    passed = [now for now in times if guesses.wrong("10.0.0.1", now) is None]
    for first in passed:  # two windows at most touch any such span
        assert sum(first <= now < first + 60 for now in passed) <= 2 * limit

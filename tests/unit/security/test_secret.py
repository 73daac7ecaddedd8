"""The form of a key: random enough, and a typing mistake is seen without any look-up."""

import re
import string

from hypothesis import example, given
from hypothesis import strategies as st

from pileus.security.secret import LENGTH, PREFIX, new_secret, well_formed

SECRET = new_secret()


def test_a_new_key_is_well_formed_and_easy_to_select() -> None:
    assert re.fullmatch(r"sk-pileus-[0-9A-Za-z]{49}", SECRET)
    assert well_formed(SECRET)


def test_keys_carry_256_random_bits() -> None:
    keys = [new_secret() for _ in range(2000)]
    assert len(set(keys)) == len(keys)
    # A digit of 62 that is uniform shows every value at least once in 2,000 draws, but for one time in 10^12.
    for position in range(len(PREFIX) + 1, len(PREFIX) + 43):
        assert len({key[position] for key in keys}) == 62
    assert 62**43 >= 2**256


@given(st.integers(0, LENGTH - 1), st.characters())
def test_a_key_with_any_one_character_changed_is_malformed(position: int, char: str) -> None:
    mutated = SECRET[:position] + char + SECRET[position + 1 :]
    assert well_formed(mutated) == (mutated == SECRET)


@given(st.integers(0, LENGTH - 2))
def test_two_neighbours_exchanged_are_malformed(position: int) -> None:
    mutated = SECRET[:position] + SECRET[position + 1] + SECRET[position] + SECRET[position + 2 :]
    assert well_formed(mutated) == (mutated == SECRET)


@given(st.text() | st.text(string.ascii_letters + string.digits).map(PREFIX.__add__))
@example("' OR '1'='1")
@example(SECRET + " ")
@example(SECRET[:-1])
@example("\ud800" * LENGTH)
@example("")
def test_nothing_else_is_well_formed(text: str) -> None:
    assert not well_formed(text)

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pileus.scheduling.traffic import Arm, choose, steps

SPLIT = (Arm("new", 0.1), Arm("old", 0.9))
KEYS = [f"conversation {number}" for number in range(20_000)]


def everywhere(_: str) -> bool:
    return True


def test_shares_are_as_their_weights_say() -> None:
    found = Counter(choose("chat", SPLIT, key, everywhere) for key in KEYS)
    assert found["new"] / len(KEYS) == pytest.approx(0.1, abs=0.01)
    assert found["new"] + found["old"] == len(KEYS)


@given(st.text(), st.text())
def test_a_key_stays_with_its_deployment(name: str, key: str) -> None:
    assert len({choose(name, SPLIT, key, everywhere) for _ in range(3)}) == 1


def test_who_is_with_the_candidate_stays_with_it_as_it_grows() -> None:
    more = (Arm("new", 0.4), Arm("old", 0.6))
    with_it = [key for key in KEYS if choose("chat", SPLIT, key, everywhere) == "new"]
    assert all(choose("chat", more, key, everywhere) == "new" for key in with_it)


def test_two_names_are_split_independently() -> None:
    both = sum(
        choose("chat", SPLIT, key, everywhere) == "new" == choose("code", SPLIT, key, everywhere) for key in KEYS
    )
    assert both / len(KEYS) == pytest.approx(0.01, abs=0.004)


def test_what_is_not_served_leaves_its_share_to_the_others() -> None:
    assert {choose("chat", SPLIT, key, lambda name: name == "old") for key in KEYS[:100]} == {"old"}
    assert choose("chat", SPLIT, "key", lambda _: False) is None


def test_a_canary_doubles_until_half() -> None:
    assert steps(0.1) == (0.1, 0.2, 0.4)
    assert steps(0.25) == (0.25, 0.5)
    assert steps(0.7) == (0.7,)

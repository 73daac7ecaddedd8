"""Long texts by segments: how they are cut, and how their answers become one."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pileus.core.records import Frame
from pileus.gateway.segments import cut, merged, segment_count
from pileus.gateway.vectors import floats, packed

FRAME = Frame((-1, -2), (-3,))


@given(tokens=st.integers(1, 3000), room=st.integers(1, 200))
def test_segments_cover_a_text_overlap_and_are_about_equally_long(tokens: int, room: int) -> None:
    found = cut([-1, -2, *range(tokens), -3], FRAME, room)
    assert len(found) == segment_count(tokens, room)
    assert all((tuple(each.ids[:2]), each.ids[-1]) == ((-1, -2), -3) for each in found)
    own = [each.ids[2:-1] for each in found]
    assert {len(each) for each in own} == {len(own[0])}
    assert len(own[0]) <= room
    assert (own[0][0], own[-1][-1]) == (0, tokens - 1)
    assert all(each == list(range(each[0], each[-1] + 1)) for each in own)
    assert all(room // 8 <= before[-1] + 1 - after[0] < len(after) for before, after in pairwise(own))
    assert sum(each.weight for each in found) == tokens  # each token counts once
    assert len(own) == 1 or tokens > room


def test_a_text_that_fits_is_one_segment_and_one_more_token_makes_two() -> None:
    assert [segment_count(tokens, 16) for tokens in (1, 16, 17, 30, 31)] == [1, 1, 2, 2, 3]


def test_vectors_become_their_mean_by_weight() -> None:
    values = [packed(each) for each in ((1, 0), (0, 1), (3, 4), (0.5, 0.5))]
    mean = [floats(each) for each in merged(values, [(3, 1), (5,), (7,)])]
    assert mean == [[0.75, 0.25], [3, 4], [0.5, 0.5]]
    long, whole, _ = (floats(each) for each in merged(values, [(3, 1), (5,), (7,)], normalise=True))
    assert math.hypot(*long) == pytest.approx(1)
    assert long[0] / long[1] == pytest.approx(3)
    assert whole == [3, 4]  # as the engine gave it
    assert floats(merged([packed((1, 0)), packed((-1, 0))], [(1, 1)], normalise=True)[0]) == [0, 0]


def test_the_best_segment_speaks_for_a_document() -> None:
    values = [packed((score,)) for score in (0.25, 0.75, 0.5, 0.125)]
    assert [floats(each) for each in merged(values, [(9, 1, 1), (1,)], best=True)] == [[0.75], [0.125]]

"""The results' journal, and what is left of it after a kill."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from pileus.batch.journal import Journal, Result
from pileus.batch.records import Extent
from pileus.jobs.handler import JobFailed

LINES = 12


def results(*places: int) -> list[Result]:
    return [Result(place, place % 3 != 0, b'{"line": %d, "x": "- + "}\n' % place) for place in places]


def commit(journal: Journal, *places: int) -> Extent:
    for result in results(*places):
        journal.add(result)
    group = journal.write(journal.take())
    journal.committed(group)
    return group.extent


def test_what_was_committed_can_be_read_in_any_order(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 1, LINES)
    commit(journal, 4, 0)
    commit(journal, 7)
    assert journal.read([0, 4, 5, 7]) == results(0, 4, 7)
    assert (journal.answered, journal.failed) == (2, 1)
    assert 5 not in journal


def test_what_is_written_counts_only_with_its_checkpoint(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 1, LINES)
    first = commit(journal, 1)
    journal.write(results(2))
    assert 2 not in journal
    assert journal.read([1, 2]) == results(1)
    recovered = Journal.recover(tmp_path, 2, LINES, [first])
    assert recovered.read(range(LINES)) == results(1)


@pytest.mark.fault(15, "the segment's tail cut or spoilt at every byte", "what is beyond the commit counts for nothing")
def test_the_tail_beyond_the_last_commit_counts_for_nothing_wherever_it_ends(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 1, LINES)
    extent = commit(journal, 1, 2)
    journal.write(results(3, 4))
    path = tmp_path / extent.name
    whole = path.read_bytes()
    for length in range(extent.length, len(whole) + 1):
        for tail in (whole[extent.length : length], b"\0" * (length - extent.length)):
            path.write_bytes(whole[: extent.length] + tail)
            assert Journal.recover(tmp_path, 2, LINES, [extent]).read(range(LINES)) == results(1, 2)


@pytest.mark.fault(15, "committed bytes lost or changed, at every byte", "an honest failure, never a wrong result")
def test_committed_bytes_that_are_lost_or_changed_are_an_honest_failure(tmp_path: Path) -> None:
    extent = commit(Journal(tmp_path, 1, LINES), 1, 2)
    path = tmp_path / extent.name
    whole = path.read_bytes()
    for place in range(len(whole)):
        for damaged in (whole[:place], whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]):
            path.write_bytes(damaged)
            with pytest.raises(JobFailed) as failed:
                Journal.recover(tmp_path, 2, LINES, [extent])
            assert failed.value.code == "results_corrupt"
    path.unlink()
    with pytest.raises(JobFailed):
        Journal.recover(tmp_path, 2, LINES, [extent])


def test_two_results_for_a_line_are_an_honest_failure(tmp_path: Path) -> None:
    first, second = commit(Journal(tmp_path, 1, LINES), 1), commit(Journal(tmp_path, 2, LINES), 1)
    with pytest.raises(JobFailed):
        Journal.recover(tmp_path, 3, LINES, [first, second])


@pytest.mark.fault(15, "a former holder goes on writing", "its results are in a segment that no checkpoint names")
def test_what_a_former_holder_still_writes_counts_for_nothing(tmp_path: Path) -> None:
    zombie = Journal(tmp_path, 1, LINES)
    first = commit(zombie, 1)
    journal = Journal.recover(tmp_path, 2, LINES, [first])
    second = commit(journal, 2)
    zombie.write(results(3, 4))
    assert Journal.recover(tmp_path, 3, LINES, [first, second]).read(range(LINES)) == results(1, 2)


def test_a_segment_of_a_time_that_was_undone_is_made_anew(tmp_path: Path) -> None:
    commit(Journal(tmp_path, 1, LINES), 1, 2, 3)
    journal = Journal(tmp_path, 1, LINES)
    commit(journal, 5)
    again = commit(journal, 6)
    assert Journal.recover(tmp_path, 2, LINES, [again]).read(range(LINES)) == results(5, 6)


@given(st.permutations(range(LINES)), st.lists(st.tuples(st.integers(1, 4), st.booleans(), st.booleans()), max_size=8))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_over_any_leases_what_was_committed_is_there_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], steps: list[tuple[int, bool, bool]]
) -> None:
    folder = tmp_path_factory.mktemp("job")
    segments: dict[str, Extent] = {}
    fence, waiting, known = 1, list(order), set[int]()
    journal = Journal(folder, fence, LINES)
    for count, commits, leaves in steps:
        places = waiting[:count]
        group = journal.write(results(*places))
        if commits:
            waiting = waiting[count:]
            known.update(places)
            journal.committed(group)
            segments[group.extent.name] = group.extent
        if leaves or not commits:
            fence += 1
            journal = Journal.recover(folder, fence, LINES, list(segments.values()))
        assert journal.read(range(LINES)) == results(*sorted(known))
        assert journal.done == len(known)


def test_a_checkpoint_of_another_length_is_refused(tmp_path: Path) -> None:
    extent = commit(Journal(tmp_path, 1, LINES), 1, 2)
    with pytest.raises(JobFailed):
        Journal.recover(tmp_path, 2, LINES, [replace(extent, length=extent.length + 1)])

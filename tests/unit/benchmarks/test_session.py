"""Which suites can be asked for."""

from pathlib import Path

from benchmarks import session


def test_every_suite_that_is_there_can_be_asked_for() -> None:
    there = {file.stem for file in (Path(session.__file__).parent / "suites").glob("*.py")} - {"__init__"}
    assert set(session.SUITES) == there
    assert len(session.SUITES) == len(there)

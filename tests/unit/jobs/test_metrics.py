from pathlib import Path

from pileus.jobs.metrics import MetricsWriter, read_points


def test_a_step_told_again_replaces_what_came_after_it(tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path / "m")
    for step, loss in [(1, 9.0), (2, 8.0), (3, 7.0), (2, 8.5)]:
        writer.add(step, {"loss": loss})
    assert [(point.step, point.values["loss"]) for point in read_points(tmp_path / "m", 10)] == [(1, 9.0), (2, 8.5)]


def test_many_points_are_thinned_out_evenly_and_the_last_one_stays(tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path / "m")
    for step in range(100):
        writer.add(step, {"loss": 1.0})
    assert [point.step for point in read_points(tmp_path / "m", 10)] == list(range(9, 100, 10))


def test_a_line_that_is_being_written_is_left_out(tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path / "m")
    writer.add(1, {"loss": 1.0})
    with (tmp_path / "m").open("ab") as opened:
        opened.write(b'{"step":2,"at":')
    assert [point.step for point in read_points(tmp_path / "m", 10)] == [1]


def test_without_a_file_there_are_no_points(tmp_path: Path) -> None:
    assert read_points(tmp_path / "none", 10) == []

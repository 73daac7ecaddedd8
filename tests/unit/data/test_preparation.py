"""A whole preparation, with everything planted that it should find."""

import io
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from pileus.config.settings import Settings
from pileus.data import preparation
from pileus.data.preparation import Prepared, prepare
from pileus.data.report import Report, read_report
from pileus.data.shards import TOKENIZER, ShardReader
from pileus.data.spec import DataSpec
from pileus.jobs.child import Brief, Told
from pileus.jobs.handler import JobFailed, Yielded
from pileus.jobs.task import Task
from pileus.models.tokenizer_file import open_tokenizer
from pileus.store.job_table import Wish
from unit.data.texts import GERMAN, chinese, english, like

for extra in ("ftfy", "lingua"):
    pytest.importorskip(extra, reason="the `data` extra is not installed: `make extras`")

QUESTION = "How many apples does Anna have left when she gives five of her twelve apples to three friends each day?"


class Paused(Task):
    """Is asked to pause once it has made so many checkpoints."""

    checkpoints = 0
    stops_at = 10**9

    def checkpoint(self, *told: Any) -> None:
        self.checkpoints += 1
        super().checkpoint(*told)

    @property
    def wish(self) -> Wish:
        return Wish.PAUSE if self.checkpoints >= self.stops_at else Wish.NONE


class House:
    """A job's folder, and inputs."""

    def __init__(self, folder: Path) -> None:
        self.inputs = folder / "inputs"
        self.job = folder / "job"
        self.out = folder / "out"
        for made in (self.inputs, self.job):
            made.mkdir()
        self.told = io.BytesIO()

    def write(self, name: str, *texts: str) -> None:
        (self.inputs / name).write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))

    def spec(self, **fields: Any) -> DataSpec:
        small = {"tokenizer": {"vocabulary": 400}, "processes": 1, "validation": 0.1, "test": 0.1}
        return msgspec.convert({"inputs": [str(self.inputs)], "out": str(self.out), **small, **fields}, DataSpec)

    def task(self, spec: DataSpec) -> Paused:
        settings = Raw(Settings().model_dump_json().encode())
        brief = Brief(spec=Raw(msgspec.json.encode(spec)), folder=str(self.job), metrics="", settings=settings)
        return Paused(brief, self.told)

    def prepare(self, **fields: Any) -> Report:
        outcome = prepare(self.task(self.spec(**fields)))
        assert isinstance(outcome, Prepared)
        report = read_report(self.out)
        assert (report.id, report.documents) == (outcome.dataset, outcome.documents)
        return report

    def logged(self) -> list[str]:
        lines = [msgspec.json.decode(line, type=Told) for line in self.told.getvalue().splitlines()]
        return [line.log[1] for line in lines if line.log is not None]


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def all_texts(out: Path) -> list[str]:
    tokenizer = open_tokenizer(out / TOKENIZER)
    found = []
    for split in ("train", "validation", "test"):
        reader = ShardReader(out, split)
        for document in reader.each_document():
            assert document[-1] == reader.manifest.end_of_text
            found.append(tokenizer.decode(document[:-1].tolist(), skip_special_tokens=False))
    return found


def test_all_that_is_planted_is_found(house: House) -> None:
    good = [english(number) for number in range(40)] + [chinese(number) for number in range(40)]
    house.write("a.jsonl", *good)
    house.write(
        "b.jsonl",
        good[0],
        english(1000, 400),
        like(english(1000, 400), 0.01),
        english(1001).replace(" river", " rivière").encode().decode("latin-1"),
        f"{english(1002)} Write to anna@example.com or call (212) 555-0187. {english(1003)}",
        f"{chinese(1004)}请联系13812345678，身份证11010519491231002X。",
        f"{english(1005)} {QUESTION}",
        GERMAN,
        "too short",
        f"{english(1006)} <|endoftext|> {english(1007)}",
    )
    with (house.inputs / "b.jsonl").open("a") as file:
        file.write("nonsense\n")
    (house.inputs / "notes.bin").write_bytes(b"\0")
    questions = house.inputs.parent / "questions.jsonl"
    questions.write_text(json.dumps({"question": QUESTION}))
    report = house.prepare(languages=["en", "zh"], evaluation=[str(questions)], piece_bytes=4096)
    assert report.left_out == {
        "exact_duplicate": 1,
        "near_duplicate": 1,
        "contaminated": 1,
        "language": 1,
        "too_short": 1,
    }
    assert report.account.personal == {"EMAIL": 1, "PHONE": 2, "ID_NUMBER": 1}
    assert report.account.repaired == 1
    assert [bad.place for bad in report.account.bad_records] == [f"{house.inputs / 'b.jsonl'}, line 11"]
    assert report.other_files == (str(house.inputs / "notes.bin"),)
    found = all_texts(house.out)
    assert len(found) == report.documents == 85
    assert set(good) <= set(found)
    assert any("<EMAIL> or call <PHONE>" in text for text in found)
    assert any("rivière" in text for text in found)
    assert any("<|endoftext|>" in text for text in found)  # as text, and not as the end of one
    assert "<svg" in (house.out / "report.html").read_text() or not _has_matplotlib()


def _has_matplotlib() -> bool:
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return False
    return True


def test_a_preparation_that_is_stopped_anywhere_comes_to_the_same(house: House, tmp_path: Path) -> None:
    house.write("a.jsonl", *(english(number) for number in range(120)), *(english(number) for number in range(30)))
    (tmp_path / "once").mkdir()
    once = House(tmp_path / "once")
    once.write("a.jsonl", *(english(number) for number in range(120)), *(english(number) for number in range(30)))
    whole = once.prepare(piece_bytes=16_384)
    stops = 0
    while True:
        task = house.task(house.spec(piece_bytes=16_384))
        task.stops_at = 1
        outcome = prepare(task)
        if not isinstance(outcome, Yielded):
            break
        stops += 1
        assert not house.out.exists()
    assert stops >= 8  # after each piece that was cleaned, and each that was packed
    resumed = read_report(house.out)
    assert resumed.id == whole.id
    assert resumed.left_out == whole.left_out
    assert prepare(house.task(house.spec())) == outcome  # nobody had heard of the end


def test_several_processes_come_to_the_same(house: House, tmp_path: Path) -> None:
    (tmp_path / "once").mkdir()
    once = House(tmp_path / "once")
    for each in (house, once):
        each.write("a.jsonl", *(english(number) for number in range(60)))
    assert house.prepare(processes=2, piece_bytes=8192).id == once.prepare(piece_bytes=8192).id


def test_a_given_tokenizer_is_taken(house: House, tmp_path: Path) -> None:
    house.write("a.jsonl", *(english(number) for number in range(60)))
    first = house.prepare(tokenizer={"algorithm": "unigram", "vocabulary": 300})
    (tmp_path / "other").mkdir()
    other = House(tmp_path / "other")
    other.write("a.jsonl", *(english(number) for number in range(60)))
    second = other.prepare(tokenizer={"file": str(house.out / TOKENIZER)})
    assert second.id == first.id
    assert english(3) in all_texts(other.out)


def test_all_bad_is_an_error_with_the_line(house: House) -> None:
    (house.inputs / "a.jsonl").write_text("no\nnope\n")
    with pytest.raises(JobFailed, match=r"none of 2 records can be read; the first: .*a\.jsonl, line 1: is no JSON"):
        prepare(house.task(house.spec()))


def test_nothing_left_is_an_error_with_the_reasons(house: House) -> None:
    house.write("a.jsonl", "short", "shorter")
    with pytest.raises(JobFailed, match="of 2 documents none is left: 2 too_short; `rules` has"):
        prepare(house.task(house.spec()))


def test_a_folder_that_is_there_already_is_not_touched(house: House) -> None:
    house.write("a.jsonl", english(1))
    house.out.mkdir()
    (house.out / "mine").write_text("x")
    with pytest.raises(JobFailed, match="not empty") as refusal:
        prepare(house.task(house.spec()))
    assert refusal.value.code == "out_exists"
    assert [path.name for path in house.out.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"inputs": []}, "inputs"),
        ({"out": ""}, "out"),
        ({"documents": "word"}, "documents"),
        ({"similarity": 0.1}, "similarity"),
        ({"validation": 0.5, "test": 0.5}, "validation"),
        ({"tokenizer": {"algorithm": "wordpiece"}}, "tokenizer.algorithm"),
        ({"tokenizer": {"vocabulary": 10}}, "tokenizer.vocabulary"),
        ({"rules": {"min_word": 1}}, "min_word"),
        ({"nothing": 1}, "nothing"),
    ],
)
def test_a_wrong_field_is_named(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=named):
        msgspec.convert({"inputs": ["x"], "out": "y", **wrong}, DataSpec)


def test_a_missing_extra_is_told(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow")

    house.write("a.jsonl", english(1))
    monkeypatch.setattr(preparation, "run_each", missing)
    with pytest.raises(JobFailed, match="pyarrow is not installed: `make extras`"):
        prepare(house.task(house.spec()))


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_read(house: House) -> None:
    house.write("a.jsonl", english(1))
    house.out.write_text("a file")
    with pytest.raises(JobFailed, match="x cannot be made") as refusal:
        house.prepare(out=str(house.out / "x"))
    assert refusal.value.code == "bad_out"
    assert not list(house.job.iterdir())

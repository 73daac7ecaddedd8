"""Jobs that evaluate and judge, with models that the test plays."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection

from pileus.core.errors import InvalidRequest, OperatorError, Overloaded
from pileus.core.records import Principal
from pileus.evaluation.asking import Answer
from pileus.evaluation.handler import EvaluationHandler, GateHandler, Ground
from pileus.evaluation.measuring import Measured, Measurement
from pileus.evaluation.metrics import METRICS
from pileus.evaluation.recording import record_evaluation, verdict_recorder
from pileus.evaluation.records import EvaluationResult, EvaluationSpec, Finding, GateResult, GateSpec
from pileus.evaluation.report import evaluation_markdown, gate_markdown
from pileus.evaluation.tasks import Item, Task, TaskSpec
from pileus.fleet.directory import ServingDirectory
from pileus.fleet.records import DeploymentInfo
from pileus.jobs.handler import YIELDED, JobFailed
from pileus.models.artefact import MANIFEST, digest_file
from pileus.scheduling.traffic import Arm
from pileus.store.job_table import Job, JobState, Wish
from pileus.store.sqlite import SqliteStore
from pileus.store.tables import AuditTable
from pileus.store.traffic_table import VerdictTable
from pileus.store.version_table import Version, VersionTable

SUMS = [(a, b) for a in range(10) for b in range(10)]


class Lease:
    """A `Context` of a job that is asked for nothing, until a test does."""

    def __init__(self, folder: Path, spec: msgspec.Struct) -> None:
        self.job = Job(id="job_1", kind="k", tenant="t", key_id="key", spec=msgspec.json.encode(spec), created_at=0.0)
        self.folder = folder
        self.wish = Wish.NONE
        self.done = 0

    async def wished(self) -> Wish:
        return await asyncio.Future()

    async def checkpoint(self, body: bytes, stage: str, done: int, total: int) -> None: ...

    def progress(self, stage: str, done: int, total: int) -> None:
        self.done = done

    def log(self, text: str, level: str = "info") -> None: ...


class Pupils:
    """Meets `Asker`: each model does sums as its function says."""

    def __init__(self, **models: Callable[[int, int], int]) -> None:
        self.models = models
        self.asked = 0
        self.on_asked: Callable[[], None] = lambda: None
        self.refusals: list[Exception] = []

    async def ask(self, model: str, task: Task, item: Item) -> Answer:
        self.asked += 1
        self.on_asked()
        if self.refusals:
            raise self.refusals.pop()
        a, b = map(int, item.messages[0].content.split("+"))
        text = str(self.models[model](a, b))
        return Answer(model=model, task=task.name, item=-1, text=text, completion_tokens=2, ttft_s=0.1, total_s=0.2)


class House:
    def __init__(self, folder: Path, pupils: Pupils) -> None:
        self.folder = folder
        self.pupils = pupils
        self.findings: tuple[Finding, ...] = (Finding(check="weights", passed=True, says="all are finite"),)
        self.measured: list[Measurement] = []
        infos = [DeploymentInfo(name=name, model=f"{name}-model", engine="fake") for name in pupils.models]
        for info in infos:
            (folder / info.model).mkdir()
            (folder / info.model / MANIFEST).write_text(json.dumps(info.model))
        self.ground = Ground(
            asker=lambda _: pupils,
            principal=lambda key_id: Principal(key_id, "t", "admin", frozenset()),
            directory=ServingDirectory(infos, list),
            folder=self._folder,
            measure=self._measure,
        )
        self.task = folder / "sums.jsonl"
        lines = [json.dumps({"prompt": f"{a}+{b}", "reference": str(a + b)}) for a, b in SUMS]
        self.task.write_text("\n".join(lines))

    def _folder(self, name: str) -> Path:
        if not (self.folder / name).is_dir():
            raise OperatorError(f"{name} is not installed")
        return self.folder / name

    async def _measure(self, context: Any, spec: bytes) -> bytes:
        self.measured.append(msgspec.json.decode(spec, type=Measurement))
        return msgspec.json.encode(Measured(findings=self.findings))

    async def evaluate(self, lease: Lease | None = None, **spec: Any) -> Any:
        asked = EvaluationSpec(model="good", tasks=(TaskSpec(path=str(self.task)),), **spec)
        found = await EvaluationHandler(self.ground)(lease or Lease(self.folder, asked))
        return msgspec.json.decode(found, type=EvaluationResult) if isinstance(found, bytes) else found

    async def judge(self, **options: Any) -> GateResult:
        spec = GateSpec(candidate="poor-model", parent="good-model", **options)
        found = await GateHandler(self.ground)(Lease(self.folder, spec))
        assert isinstance(found, bytes)
        return msgspec.json.decode(found, type=GateResult)

    def asked_of(self, candidate: str) -> dict[str, Any]:
        return {
            "tasks": (TaskSpec(path=str(self.task)),),
            "serves_candidate": candidate,
            "serves_parent": "good",
        }


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path, Pupils(good=lambda a, b: a + b, poor=lambda a, b: a + b if a > 2 else 0))


async def test_a_model_is_scored_with_an_interval_and_beside_another(house: House) -> None:
    result = await house.evaluate(against="poor")
    [score] = result.of.scores
    assert (score.metric, score.items, score.failed, score.score.value) == ("exact_match", 100, 0, 1.0)
    [worse] = result.against.scores
    assert worse.score.value == pytest.approx(0.71)
    assert worse.score.low < worse.score.value < worse.score.high
    [compared] = result.compared
    assert compared.difference.value == pytest.approx(0.29)
    assert compared.difference.low > 0.15
    assert compared.mcnemar_p is not None
    assert compared.mcnemar_p < 1e-6
    assert result.of.paces[0].ttft_p95_s == pytest.approx(0.1)
    assert result.of.paces[0].tokens_per_s == pytest.approx(2 / 0.2 * 8)
    report = evaluation_markdown(result)
    assert "| sums | exact_match | 1 (1 to 1) | 100 | 0 |" in report
    assert "good less poor" in report


async def test_a_job_that_is_tried_again_asks_only_what_has_no_answer(house: House) -> None:
    lease = Lease(house.folder, EvaluationSpec(model="good", tasks=(TaskSpec(path=str(house.task)),)))

    def pause() -> None:
        if house.pupils.asked == 40:
            lease.wish = Wish.PAUSE

    house.pupils.on_asked = pause
    assert await house.evaluate(lease) is YIELDED
    before = house.pupils.asked
    assert 40 <= before < 50
    with (house.folder / "answers.jsonl").open("ab") as journal:
        journal.write(b'{"model": "good", "ta')  # cut off by a crash
    assert (await house.evaluate()).of.scores[0].score.value == 1.0
    assert house.pupils.asked == len(SUMS)


async def test_who_has_no_room_is_asked_again_and_a_refusal_counts_as_wrong(house: House) -> None:
    house.pupils.refusals = [Overloaded("full", retry_after_s=0.0), InvalidRequest("too long")]
    [score] = (await house.evaluate()).of.scores
    assert score.failed == 1
    assert score.score.value == pytest.approx(0.99)


async def test_a_model_that_answers_nothing_has_no_score(house: House) -> None:
    house.pupils.refusals = [InvalidRequest("no chat template")] * 200
    with pytest.raises(JobFailed, match="answers nothing of sums: no chat template"):
        await house.evaluate()


async def test_a_bad_task_ends_the_job_before_anybody_is_asked(house: House) -> None:
    house.task.write_text('{"prompt": "1+1"}')
    with pytest.raises(JobFailed, match="line 1"):
        await house.evaluate()
    assert house.pupils.asked == 0


async def test_a_metric_whose_library_is_missing_ends_the_job_before_anybody_is_asked(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise OperatorError("this metric needs nothing that is here")

    monkeypatch.setitem(METRICS, "exact_match", msgspec.structs.replace(METRICS["exact_match"], library=missing))  # type: ignore[arg-type]
    with pytest.raises(JobFailed, match="needs nothing that is here") as refusal:
        await house.evaluate()
    assert (refusal.value.code, house.pupils.asked) == ("not_installed", 0)


async def test_a_name_that_is_shared_out_has_no_figures_of_its_own(house: House) -> None:
    directory = house.ground.directory
    assert isinstance(directory, ServingDirectory)
    directory.route("good", (Arm("good", 0.5), Arm("poor", 0.5)))
    with pytest.raises(JobFailed, match="several deployments at present"):
        await house.evaluate()
    assert house.pupils.asked == 0


async def test_the_gate_asks_only_who_passed_the_checks_of_its_files(house: House) -> None:
    house.findings = (Finding(check="weights", passed=False, says="NaN in layer 1"),)
    result = await house.judge(**house.asked_of("poor"))
    assert not result.passed
    assert house.pupils.asked == 0
    assert "| weights | **refused** | NaN in layer 1 |" in gate_markdown(result)


async def test_the_gate_refuses_who_answers_worse(house: House) -> None:
    result = await house.judge(**house.asked_of("poor"))
    assert not result.passed
    assert result.findings[-1].check == "task"
    assert "sums, exact_match: -0.29 against the parent" in result.findings[-1].says
    house.pupils.models["poor"] = house.pupils.models["good"]
    (house.folder / "answers.jsonl").unlink()
    assert (await house.judge(**house.asked_of("poor"))).passed


async def test_the_gate_judges_what_a_deployment_serves_indeed(house: House) -> None:
    with pytest.raises(JobFailed, match="good serves good-model, not poor-model"):
        await house.judge(**house.asked_of("good"))


def test_what_was_found_is_on_the_card_and_the_verdict_is_signed(house: House, tmp_path: Path) -> None:
    asyncio.run(_recorded(house, tmp_path))


async def _recorded(house: House, tmp_path: Path) -> None:
    evaluated, verdict = await house.evaluate(), await house.judge()
    (tmp_path / "data").mkdir()
    store = SqliteStore.open(tmp_path / "data")
    signed: list[bytes] = []

    def sign(body: bytes) -> bytes:
        signed.append(body)
        return b"signature"

    def write(tx: Connection) -> None:
        for number, name in enumerate(("good-model", "poor-model")):
            VersionTable().insert(tx, _version(name, digest_file(house.folder / name / MANIFEST).sha256, number))
        record_evaluation(tx, _ended("evaluate", evaluated))
        verdict_recorder(sign)(tx, _ended("gate", verdict))

    try:
        store.write_blocking(write)
        cards = {v.model: json.loads(v.card) for v in store.read_blocking(VersionTable().all)}
        assert cards["good-model"]["figures"] == {"loss": 1.5, "sums.exact_match": 1.0}
        assert cards["poor-model"]["figures"] == {"loss": 1.5}
        [kept] = store.read_blocking(lambda tx: VerdictTable().latest(tx, 9))
        assert (kept.version_id, kept.passed, kept.signature) == ("ver_1", True, b"signature")
        assert signed == [kept.body]
        [(_, event)] = store.read_blocking(lambda tx: AuditTable().latest(tx, 9, "gate.verdict"))
        assert (event.target, event.outcome) == ("poor-model (ver_1)", "ok")
    finally:
        store.close()


def _ended(kind: str, result: msgspec.Struct) -> Job:
    return Job(
        id=f"job_{kind}",
        kind=kind,
        tenant="t",
        key_id="key",
        spec=b"{}",
        created_at=0.0,
        state=JobState.SUCCEEDED,
        finished_at=9.0,
        result=msgspec.json.encode(result),
    )


def _version(name: str, sha256: str, number: int) -> Version:
    return Version(
        id=f"ver_{number}",
        model=name,
        number=1,
        artefact=name,
        kind="generator",
        sha256=sha256,
        size_bytes=1,
        licence="",
        stage="candidate",
        tenant="t",
        created_at=0.0,
        created_by="key",
        card=b'{"figures": {"loss": 1.5}}',
    )

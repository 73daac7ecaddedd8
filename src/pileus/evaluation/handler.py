"""What a worker does for jobs of the kinds `evaluate` and `gate`."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.json import encode

from pileus.config.settings import Settings
from pileus.core.errors import ModelNotFound, OperatorError
from pileus.core.records import Principal
from pileus.evaluation.asking import Answer, Asker, Journal, ask_all
from pileus.evaluation.measuring import GateMeasure, Measured, Measurement, TextMeasure
from pileus.evaluation.metrics import demand_libraries, metric
from pileus.evaluation.records import (
    Compared,
    Evaluated,
    EvaluationResult,
    EvaluationSpec,
    Finding,
    Foreseen,
    GateResult,
    GateSpec,
)
from pileus.evaluation.scoring import compare, pace, scores
from pileus.evaluation.statistics import is_non_inferior
from pileus.evaluation.tasks import Task, TaskError, TaskSpec, load_task
from pileus.fleet.directory import Directory
from pileus.jobs.child import run_child
from pileus.jobs.handler import YIELDED, Context, JobFailed, Yielded
from pileus.models.artefact import MANIFEST, digest_file
from pileus.store.job_table import Wish

_HUNDRED = ("bleu", "chrf")  # metrics that go from 0 to 100

Run = Callable[[Context, bytes], Awaitable[bytes | Yielded]]  # a measurement, in a process of its own


class Stopped(Exception):
    """The job is to rest or to end; what was answered is kept."""


class Ground(Struct, frozen=True):
    """What the handlers stand on."""

    asker: Callable[[Principal], Asker]
    principal: Callable[[str], Principal]  # of a key's id
    directory: Directory
    folder: Callable[[str], Path]  # of an artefact; raises `OperatorError`
    measure: Run


def measure_in_child(settings: Settings) -> Run:
    """The measuring of artefacts, in a process of its own."""

    async def measure(context: Context, spec: bytes) -> bytes | Yielded:
        return await run_child(context, "pileus.evaluation.process", settings, spec=spec)

    return measure


class EvaluationHandler:
    """Meets `jobs.handler.Handler`, for the kind `evaluate`."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    async def __call__(self, context: Context) -> bytes | Yielded:
        spec = msgspec.json.decode(context.job.spec, type=EvaluationSpec)
        tasks = await _load(spec.tasks)
        models = [spec.model, spec.against] if spec.against else [spec.model]
        try:
            artefacts = [_artefact(self._ground, model, context.job.tenant, asked=bool(tasks)) for model in models]
            inquiry = Inquiry(self._ground, context, tasks, spec.parallel)
            answers = [await inquiry.answers(model) for model in models]
            foreseen = [await self._foreseen(context, spec, artefact) for artefact in artefacts]
        except Stopped:
            return YIELDED if context.wish is Wish.PAUSE else b"{}"
        found = [
            await asyncio.to_thread(self._evaluated, spec, model, artefact, tasks, said, texts)
            for model, artefact, said, texts in zip(models, artefacts, answers, foreseen, strict=True)
        ]
        compared = await asyncio.to_thread(_compare, tasks, answers, spec.seed) if spec.against else ()
        return encode(EvaluationResult(of=found[0], against=found[1] if spec.against else None, compared=compared))

    def _evaluated(
        self,
        spec: EvaluationSpec,
        model: str,
        artefact: str,
        tasks: Sequence[Task],
        answers: Sequence[Sequence[Answer]],
        foreseen: tuple[Foreseen, ...],
    ) -> Evaluated:
        by_task = list(zip(tasks, answers, strict=True))
        return Evaluated(
            model=model,
            artefact=artefact,
            sha256=_manifest(self._ground, artefact),
            scores=tuple(scored for task, said in by_task for scored in scores(task, said, spec.seed)),
            paces=tuple(pace(task, said, spec.parallel) for task, said in by_task),
            perplexities=foreseen,
        )

    async def _foreseen(self, context: Context, spec: EvaluationSpec, artefact: str) -> tuple[Foreseen, ...]:
        if not spec.texts:
            return ()
        wish = TextMeasure(
            folder=str(_folder(self._ground, artefact)), texts=spec.texts, windows=spec.windows, seed=spec.seed
        )
        return (await _measure(self._ground, context, Measurement(texts=wish))).perplexities


class GateHandler:
    """Meets `jobs.handler.Handler`, for the kind `gate`: first the artefact, then, if that passes, the tasks."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    async def __call__(self, context: Context) -> bytes | Yielded:
        spec = msgspec.json.decode(context.job.spec, type=GateSpec)
        tasks = await _load(spec.tasks)
        try:
            return encode(await self._judge(context, spec, tasks))
        except Stopped:
            return YIELDED if context.wish is Wish.PAUSE else b"{}"

    async def _judge(self, context: Context, spec: GateSpec, tasks: Sequence[Task]) -> GateResult:
        candidate, parent = (_folder(self._ground, name) for name in (spec.candidate, spec.parent))
        sums = [_manifest(self._ground, name) for name in (spec.candidate, spec.parent)]
        wish = GateMeasure(
            candidate=str(candidate),
            parent=str(parent),
            texts=spec.texts,
            windows=spec.windows,
            margin=spec.margins.perplexity,
            new_tokenizer=spec.new_tokenizer,
            seed=spec.seed,
        )
        findings = (await _measure(self._ground, context, Measurement(gate=wish))).findings
        if tasks and all(finding.passed for finding in findings):
            findings += await self._tasks(context, spec, tasks)
        if sums != [_manifest(self._ground, name) for name in (spec.candidate, spec.parent)]:
            raise JobFailed("a model was replaced while it was being judged: run the gate again", code="model_changed")
        return GateResult(
            candidate=spec.candidate,
            sha256=sums[0],
            parent=spec.parent,
            parent_sha256=sums[1],
            margins=spec.margins,
            passed=all(finding.passed for finding in findings),
            findings=findings,
        )

    async def _tasks(self, context: Context, spec: GateSpec, tasks: Sequence[Task]) -> tuple[Finding, ...]:
        for served, model in ((spec.serves_candidate, spec.candidate), (spec.serves_parent, spec.parent)):
            if (found := _artefact(self._ground, served, context.job.tenant, asked=True)) != model:
                raise JobFailed(f"{served} serves {found}, not {model}", code="wrong_deployment")
        inquiry = Inquiry(self._ground, context, tasks, spec.parallel)
        a, b = await inquiry.answers(spec.serves_candidate), await inquiry.answers(spec.serves_parent)
        compared = await asyncio.to_thread(_compare, tasks, [a, b], spec.seed)
        return tuple(_judged(each, spec.margins.score) for each in compared)


class Inquiry:
    """The same tasks for one model after another, within one job."""

    def __init__(self, ground: Ground, context: Context, tasks: Sequence[Task], parallel: int) -> None:
        self._asker = ground.asker(ground.principal(context.job.key_id))
        self._context = context
        self._tasks = tasks
        self._parallel = parallel
        self._journal = Journal(context.folder / "answers.jsonl")

    def _told(self, total: int, done: int) -> None:
        self._context.progress("asking", done, total)

    async def answers(self, model: str) -> list[Sequence[Answer]]:
        """Of each task. Raises `Stopped`."""
        found = []
        for task in self._tasks:
            said = await ask_all(
                self._asker,
                model,
                task,
                self._journal,
                parallel=self._parallel,
                told=partial(self._told, len(task.items)),
                stop=lambda: self._context.wish is not Wish.NONE,
            )
            if said is None:
                raise Stopped
            _demand_answers(model, task, said)
            found.append(said)
        return found


def _demand_answers(model: str, task: Task, answers: Sequence[Answer]) -> None:
    """A model that answers nothing has no score."""
    if all(answer.error for answer in answers):
        raise JobFailed(f"{model} answers nothing of {task.name}: {answers[0].error}", code="no_answers")


async def _load(specs: Sequence[TaskSpec]) -> list[Task]:
    try:
        for name in (name for spec in specs for name in spec.metrics):
            metric(name)
        tasks = [await asyncio.to_thread(load_task, spec) for spec in specs]
        await asyncio.to_thread(demand_libraries, [name for task in tasks for name in task.metrics])
    except (TaskError, ValueError) as error:
        raise JobFailed(str(error), code="bad_task") from None
    except OperatorError as error:
        raise JobFailed(error.message, code="not_installed") from None
    if len({task.name for task in tasks}) < len(tasks):
        raise JobFailed("two tasks have files of the same name", code="bad_task")
    return tasks


def _artefact(ground: Ground, model: str, tenant: str, *, asked: bool) -> str:
    """What a deployment serves, or the adapter that is named; a name that is neither, and is not asked anything, is an
    artefact's itself. Raises `JobFailed` for a name that means several at present."""
    if len(ground.directory.arms(model)) > 1:
        raise JobFailed(f"{model} is answered by several deployments at present: name one", code="several_deployments")
    try:
        target = ground.directory.find(model, tenant)
        return target.deployment.model if target.adapter is None else target.adapter.artefact
    except ModelNotFound as error:
        if asked:
            raise JobFailed(error.message, code=error.code) from None
        return model


def _folder(ground: Ground, artefact: str) -> Path:
    try:
        return ground.folder(artefact)
    except OperatorError as error:
        raise JobFailed(error.message, code=error.code) from None


def _manifest(ground: Ground, artefact: str) -> str:
    """Its digest; empty where nothing is installed under that name."""
    try:
        return digest_file(ground.folder(artefact) / MANIFEST).sha256
    except (OperatorError, OSError):
        return ""


async def _measure(ground: Ground, context: Context, wish: Measurement) -> Measured:
    found = await ground.measure(context, encode(wish))
    if isinstance(found, Yielded) or context.wish in (Wish.CANCEL, Wish.EXPIRE):
        raise Stopped
    return msgspec.json.decode(found, type=Measured)


def _compare(tasks: Sequence[Task], answers: Sequence[Sequence[Sequence[Answer]]], seed: int) -> tuple[Compared, ...]:
    a, b = answers
    return tuple(each for task, x, y in zip(tasks, a, b, strict=True) for each in compare(task, x, y, seed))


def _judged(compared: Compared, margin: float) -> Finding:
    scale = 100.0 if compared.metric in _HUNDRED else 1.0
    difference = compared.difference
    passed = is_non_inferior(difference, margin * scale)
    says = (
        f"{compared.task}, {compared.metric}: {difference.value:+.4g} against the parent "
        f"(95%: {difference.low:+.4g} to {difference.high:+.4g}); "
        f"{'not worse' if passed else 'may be worse'} by more than {margin * scale:g}"
    )
    figures = {
        "difference": difference.value,
        "low": difference.low,
        "high": difference.high,
        "permutation_p": compared.permutation_p,
    }
    if compared.mcnemar_p is not None:
        figures["mcnemar_p"] = compared.mcnemar_p
    return Finding(check="task", passed=passed, says=says, figures=figures)

"""A fine-tuning's lease: its files are checked, it waits for its turn, and what it leaves is kept."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw
from msgspec.json import decode, encode

from made_models import TEMPLATE, tokenizer_content
from pileus.config.settings import FineTuning
from pileus.jobs.handler import YIELDED, JobFailed, Yielded
from pileus.jobs.metrics import METRICS_FILE, MetricsWriter
from pileus.models.artefact import Generation
from pileus.models.registry import Made
from pileus.models.tokenizer import ModelTokenizer
from pileus.store.job_table import Job, Wish
from pileus.store.local_blobs import LocalBlobs
from pileus.testing.clock import ManualClock
from pileus.training.finetune.handler import FineTuneHandler, Workplace
from pileus.training.finetune.judging import Case
from pileus.training.finetune.records import (
    KIND,
    REFUSED,
    FineTuneCheckpoint,
    FineTuneResult,
    FineTuneSpec,
    Kept,
    Order,
    Ruling,
    Source,
    Trained,
    Wishes,
)

GENERATION = Generation(architecture="llama", context_length=256, vocab_size=267, stop_ids=(2, 0))
GOOD = b"".join(
    b'{"messages": [{"role": "user", "content": "What is %d?"}, {"role": "assistant", "content": "%d"}]}\n' % (n, n)
    for n in range(12)
)


class Lease:
    """A `Context` that keeps what it is told."""

    def __init__(self, folder: Path, spec: FineTuneSpec, checkpoint: bytes = b"") -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        body = encode(spec)
        self.job = Job(
            id="ftjob-1", kind=KIND, tenant="t", key_id="k", spec=body, created_at=0.0, fence=1, checkpoint=checkpoint
        )
        self.told: list[tuple[str, str]] = []
        self.stages: list[str] = []
        self.waits = asyncio.Event()
        self.last = FineTuneCheckpoint()
        self._asked: asyncio.Future[Wish] = asyncio.get_running_loop().create_future()

    @property
    def wish(self) -> Wish:
        return self._asked.result() if self._asked.done() else Wish.NONE

    def ask(self, wish: Wish) -> None:
        self._asked.set_result(wish)

    async def wished(self) -> Wish:
        return await asyncio.shield(self._asked)

    async def checkpoint(self, body: bytes, stage: str, done: int, total: int) -> None:
        self.last = decode(body, type=FineTuneCheckpoint)

    def progress(self, stage: str, done: int, total: int) -> None:
        self.stages.append(stage)
        if stage == "waiting_for_a_turn":
            self.waits.set()

    def log(self, text: str, level: str = "info") -> None:
        self.told.append((level, text))


class House:
    """A handler over real blobs, whose process is the test's."""

    def __init__(self, folder: Path) -> None:
        self.blobs = LocalBlobs(folder / "blobs")
        self.folder = folder
        self.orders: list[Order] = []
        self.cases: list[Case] = []
        self.leaves = Trained(trained_tokens=77)  # what the process gives
        self.bad: set[str] = set()  # what the gate refuses
        self.goes_on = asyncio.Event()
        self.began = asyncio.Event()
        workplace = Workplace(
            settings=FineTuning(),
            blobs=self.blobs,
            tokenizer=lambda _: ModelTokenizer(tokenizer_content(), GENERATION, TEMPLATE),
            run=self._run,
            judge=self._judge,
            clock=ManualClock(),
        )
        self.handler = FineTuneHandler(workplace)

    async def _run(self, context: Any, order: bytes) -> bytes:
        self.orders.append(decode(order, type=Order))
        MetricsWriter(context.folder / METRICS_FILE).add(1, {"train_loss": 0.5})
        self.began.set()
        await self.goes_on.wait()
        return encode(self.leaves)

    async def _judge(self, context: Any, case: Case) -> tuple[Ruling, ...] | Yielded:
        self.cases.append(case)
        if context.wish is not Wish.NONE:
            return YIELDED
        return tuple(
            Ruling(candidate=each, refusal="loss: it is bad" if each in self.bad else "", evidence=Raw(b"{}"))
            for each in case.candidates
        )

    async def lease(self, content: bytes = GOOD, validation: bytes | None = None, name: str = "job") -> Lease:
        spec = FineTuneSpec(
            model="m",
            deployment="m",
            base="b",
            adapter="a",
            output="m:a",
            training=await self._store(content, "t"),
            validation=None if validation is None else await self._store(validation, "v"),
            wishes=Wishes(n_epochs=2),
        )
        return Lease(self.folder / name, spec)

    async def _store(self, content: bytes, name: str) -> Source:
        draft = await self.blobs.create(f"files/{name}")
        await draft.write(content)
        await draft.commit()
        return Source(f"file-{name}", f"files/{name}", len(content))


@pytest.fixture
async def house(tmp_path: Path) -> House:
    return House(tmp_path)


async def test_files_in_order_are_trained_on_and_the_figures_become_a_file(house: House) -> None:
    house.goes_on.set()
    lease = await house.lease(validation=GOOD[: GOOD.index(b"\n") + 1])
    result = decode(await house.handler(lease), type=FineTuneResult)  # type: ignore[arg-type]
    [order] = house.orders
    assert (order.checked.examples, order.checked.validation_examples) == (12, 1)
    assert (order.checked.plan.n_epochs, order.checked.plan.batch_size) == (2, 1)
    assert order.checked.tokens > 12 * 10
    assert lease.last.checked == order.checked
    assert result.trained_tokens == 77
    assert result.result is not None
    content = b"".join([piece async for piece in house.blobs.read(result.result.blob)])
    assert content.splitlines()[1].startswith(b"1,0.5,")


async def test_a_file_out_of_order_fails_the_job_before_anything_runs(house: House) -> None:
    lease = await house.lease(GOOD + b"{\n" + GOOD.splitlines(keepends=True)[0])
    with pytest.raises(JobFailed, match="line 13") as failure:
        await house.handler(lease)
    assert failure.value.code == "invalid_training_file"
    assert ("warning", "file-t, line 14: This is the example of line 1 once more.") in lease.told
    assert [level for level, text in lease.told if "line 13" in text] == ["error"]
    assert house.orders == []


async def test_a_validation_file_out_of_order_says_that_it_is_that_one(house: House) -> None:
    with pytest.raises(JobFailed, match="file-v") as failure:
        await house.handler(await house.lease(validation=b"{"))
    assert failure.value.code == "invalid_validation_file"


async def test_a_second_job_is_checked_at_once_and_waits_for_its_turn(house: House) -> None:
    first, second = await house.lease(), await house.lease(name="second")
    running = asyncio.ensure_future(house.handler(first))
    await house.began.wait()
    waiting = asyncio.ensure_future(house.handler(second))
    await second.waits.wait()
    assert second.last.checked is not None
    assert len(house.orders) == 1
    house.goes_on.set()
    await asyncio.wait_for(asyncio.gather(running, waiting), 30)
    assert len(house.orders) == 2


@pytest.mark.parametrize(("wish", "yields"), [(Wish.PAUSE, True), (Wish.CANCEL, False)])
async def test_a_job_that_waits_does_what_is_asked_of_it(house: House, wish: Wish, yields: bool) -> None:
    running = asyncio.ensure_future(house.handler(await house.lease()))
    await house.began.wait()
    second = await house.lease(name="second")
    waiting = asyncio.ensure_future(house.handler(second))
    await second.waits.wait()
    second.ask(wish)
    given = await waiting
    assert (given is YIELDED) is yields
    if not yields:
        assert decode(given, type=FineTuneResult).made == ()  # type: ignore[arg-type]
    house.goes_on.set()
    await running
    third = asyncio.ensure_future(house.handler(await house.lease(name="third")))  # the turn was not lost
    await asyncio.wait_for(third, 30)


async def test_files_are_not_checked_twice(house: House) -> None:
    house.goes_on.set()
    lease = await house.lease()
    await house.handler(lease)
    again = Lease(lease.folder, decode(lease.job.spec, type=FineTuneSpec), encode(lease.last))
    await house.handler(again)
    assert "validating_files" not in again.stages
    assert len(house.orders) == 2


def left(*names: str) -> Trained:
    """By a run that made the last of these."""
    kept = tuple(Kept(step=step, at=0.0, name=name, metrics={}) for step, name in enumerate(names))
    made = Made(model=names[-1], artefact=names[-1], kind="adapter", sha256="aa", size_bytes=1)
    return Trained(made=(made,), trained_tokens=77, kept=kept)


async def test_what_a_run_leaves_is_judged_on_the_validations_items(house: House) -> None:
    house.goes_on.set()
    house.leaves = left("m:a-step-1", "m:a")
    lease = await house.lease(validation=GOOD[: GOOD.index(b"\n") + 1])
    result = decode(await house.handler(lease), type=FineTuneResult)  # type: ignore[arg-type]
    [case] = house.cases
    assert (case.base, case.candidates, case.held_out) == ("b", ("m:a-step-1", "m:a"), True)
    [[item]] = case.items
    assert item.ids[-1] == GENERATION.stop_ids[0]
    assert item.learnt == [False] * (len(item.ids) - 2) + [True] * 2  # "0", and the end of the turn
    assert [ruling.candidate for ruling in result.rulings] == ["m:a-step-1", "m:a"]
    assert ("info", "gate: m:a passes") in lease.told


async def test_without_a_validation_file_it_is_judged_on_what_it_learnt_from(house: House) -> None:
    house.goes_on.set()
    house.leaves = left("m:a")
    await house.handler(await house.lease())
    [case] = house.cases
    assert (case.held_out, len(case.items)) == (False, 12)


async def test_a_job_whose_model_is_refused_fails_and_leaves_what_it_made(house: House) -> None:
    house.goes_on.set()
    house.leaves, house.bad = left("m:a-step-1", "m:a"), {"m:a"}
    lease = await house.lease()
    with pytest.raises(JobFailed, match="m:a is refused by the gate, and not served: loss: it is bad") as failure:
        await house.handler(lease)
    assert failure.value.code == REFUSED
    result = decode(failure.value.result, type=FineTuneResult)
    assert (result.made, result.trained_tokens) == (house.leaves.made, 77)
    assert result.result is not None
    assert [bool(result.refusal(kept.name)) for kept in result.kept] == [False, True]
    assert ("error", "gate: m:a is refused: loss: it is bad") in lease.told


async def test_a_checkpoint_that_is_refused_does_not_fail_the_job(house: House) -> None:
    house.goes_on.set()
    house.leaves, house.bad = left("m:a-step-1", "m:a"), {"m:a-step-1"}
    result = decode(await house.handler(await house.lease()), type=FineTuneResult)  # type: ignore[arg-type]
    assert [result.refusal(kept.name) for kept in result.kept] == ["loss: it is bad", ""]


@pytest.mark.parametrize(("wish", "yields"), [(Wish.PAUSE, True), (Wish.CANCEL, False)])
async def test_a_pause_is_heeded_while_it_is_judged_and_a_cancel_keeps_what_can_be_used(
    house: House, wish: Wish, yields: bool
) -> None:
    house.leaves = left("m:a")
    lease = await house.lease()
    running = asyncio.ensure_future(house.handler(lease))
    await house.began.wait()
    lease.ask(wish)
    house.goes_on.set()
    given = await running
    assert (given is YIELDED) is yields
    assert len(house.cases) == 1

"""A fine-tuning's life in a job worker: its files are checked, it waits for its turn, its process trains, the gate
judges what that made, and its metrics become a file. Each lease goes on where the last one's last checkpoint is."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from msgspec import Struct
from msgspec.json import decode, encode
from msgspec.structs import replace

from pileus.config.settings import FineTuning
from pileus.core.clock import Clock
from pileus.core.errors import NotFound, OperatorError
from pileus.core.ids import new_id
from pileus.core.ports import Tokenizer
from pileus.jobs.handler import YIELDED, Context, JobFailed, Yielded
from pileus.jobs.metrics import METRICS_FILE, read_points
from pileus.store.blobs import Blobs
from pileus.store.job_table import Wish
from pileus.training.finetune.check import FEWEST_EXAMPLES, Check, Report
from pileus.training.finetune.judging import Judge, Undisturbed, case_of
from pileus.training.finetune.measuring import measure_with
from pileus.training.finetune.plan import max_length_of, plan_of
from pileus.training.finetune.records import (
    BAD_TRAINING_FILE,
    BAD_VALIDATION_FILE,
    REFUSED,
    TRAINING_FILE,
    VALIDATION_FILE,
    Checked,
    FineTuneCheckpoint,
    FineTuneResult,
    Order,
    ResultFile,
    Ruling,
    Source,
    Trained,
    decode_checkpoint,
    decode_spec,
)
from pileus.training.finetune.table import metrics_table

_MOST_POINTS: Final = 10_000
_VALIDATING, _WAITING, _JUDGING = "validating_files", "waiting_for_a_turn", "judging"
_ENDING: Final = (Wish.CANCEL, Wish.EXPIRE)

Run = Callable[[Context, bytes], Awaitable[bytes | Yielded]]  # the process that trains, for an order


class Workplace(Struct, frozen=True, kw_only=True):
    """What the handler stands on."""

    settings: FineTuning
    blobs: Blobs
    tokenizer: Callable[[str], Tokenizer]  # of a model in the catalogue; blocks, and raises `OperatorError`
    run: Run
    judge: Judge | None  # None: nothing is judged
    clock: Clock


class FineTuneHandler:
    """Meets `jobs.handler.Handler`."""

    def __init__(self, workplace: Workplace) -> None:
        self._workplace = workplace
        self._turns = asyncio.Semaphore(workplace.settings.together)

    async def __call__(self, context: Context) -> bytes | Yielded:
        lease = _Lease(self._workplace, context)
        record = await lease.checked()
        if record is None:
            return await lease.end(None) if context.wish in _ENDING else YIELDED
        async with self._turn(context) as has_turn:
            if has_turn:
                return await lease.train(record)
        return await lease.end(None) if context.wish in _ENDING else YIELDED

    @asynccontextmanager
    async def _turn(self, context: Context) -> AsyncIterator[bool]:
        """Wait until fewer models learn; whether it came to that before something was asked."""
        waiting, wished = asyncio.ensure_future(self._turns.acquire()), asyncio.ensure_future(context.wished())
        try:
            if self._turns.locked():
                context.progress(_WAITING, 0, 0)
            await asyncio.wait({waiting, wished}, return_when=asyncio.FIRST_COMPLETED)
            yield waiting.done() and context.wish is Wish.NONE
        finally:
            wished.cancel()
            if waiting.done() and not waiting.cancelled():
                self._turns.release()
            waiting.cancel()


class _Lease:
    """One lease of one job."""

    def __init__(self, workplace: Workplace, context: Context) -> None:
        self._workplace = workplace
        self._context = context
        self._spec = decode_spec(context.job.spec)
        self._record = decode_checkpoint(context.job.checkpoint)

    # --- the files --------------------------------------------------------------------------------------------------

    async def checked(self) -> FineTuneCheckpoint | None:
        """The record of files that are in order, with copies in the job's folder; None where something was asked
        before. Raises `JobFailed` with what is wrong."""
        folder, spec = self._context.folder, self._spec
        names = [TRAINING_FILE, *([VALIDATION_FILE] if spec.validation is not None else [])]
        if self._record.checked is not None and all((folder / name).is_file() for name in names):
            return self._record
        self._context.progress(_VALIDATING, 0, 0)
        try:
            tokenizer = await asyncio.to_thread(self._workplace.tokenizer, spec.base)
        except OperatorError as error:
            raise JobFailed(f"The base cannot be had: {error.message}", code="invalid_model") from None
        training = await self._take_in(spec.training, TRAINING_FILE, tokenizer, FEWEST_EXAMPLES, BAD_TRAINING_FILE)
        held_out = None
        if spec.validation is not None and training is not None:
            held_out = await self._take_in(spec.validation, VALIDATION_FILE, tokenizer, 1, BAD_VALIDATION_FILE)
        if training is None or (spec.validation is not None and held_out is None):
            return None
        await self._keep_checked(training, held_out, tokenizer.context_length)
        return self._record

    async def _take_in(self, source: Source, name: str, tokenizer: Tokenizer, fewest: int, code: str) -> Report | None:
        """Copy a file and check every line of it. None where something was asked."""
        spec = self._spec
        longest = max_length_of(spec.wishes, tokenizer.context_length)
        check = Check(spec.method, measure_with(tokenizer, longest), fewest)
        draft = self._context.folder / f".{name}.{self._context.job.fence}"
        done = 0
        try:
            with draft.open("wb") as copy:
                async for piece in self._workplace.blobs.read(source.blob):
                    await asyncio.to_thread(_take, copy.write, check.feed, piece)
                    done += len(piece)
                    self._context.progress(_VALIDATING, done, source.bytes)
                    if self._context.wish is not Wish.NONE:
                        return None
        except NotFound:
            raise JobFailed(f"The content of the file {source.file_id} is gone.", code=code) from None
        report = await asyncio.to_thread(check.finish)
        draft.rename(self._context.folder / name)
        self._tell(source, report, code)
        return report

    def _tell(self, source: Source, report: Report, code: str) -> None:
        for finding in report.findings:
            self._context.log(f"{source.file_id}, {finding.text}", finding.level)
        if errors := report.errors:
            told = f"The file {source.file_id} is not in order: {report.summary}"
            self._context.log(f"{len(errors)} errors in {source.file_id}: nothing was run", "error")
            raise JobFailed(told, code=code)

    async def _keep_checked(self, training: Report, held_out: Report | None, context_length: int) -> None:
        spec = self._spec
        checked = Checked(
            examples=training.examples,
            tokens=training.tokens,
            longest=training.longest,
            validation_examples=0 if held_out is None else held_out.examples,
            plan=plan_of(spec.wishes, training.examples, context_length),
        )
        self._record = replace(self._record, checked=checked)
        await self._context.checkpoint(encode(self._record), "queued", 0, 0)
        self._context.log(f"files validated: {checked.examples} examples, {checked.tokens} tokens an epoch")

    # --- the process ------------------------------------------------------------------------------------------------

    async def train(self, record: FineTuneCheckpoint) -> bytes | Yielded:
        assert record.checked is not None
        running_at = record.running_at or self._workplace.clock.wall()
        order = Order(job_id=self._context.job.id, spec=self._spec, checked=record.checked, running_at=running_at)
        given = await self._workplace.run(self._context, encode(order))
        return given if isinstance(given, Yielded) else await self.end(decode(given, type=Trained))

    # --- the end ----------------------------------------------------------------------------------------------------

    async def end(self, trained: Trained | None) -> bytes | Yielded:
        """What the job leaves, also where it was cancelled. Raises `JobFailed`, with all that, where the model that it
        made is refused."""
        trained = trained or Trained(trained_tokens=self._record.trained_tokens, kept=self._record.kept)
        rulings = await self._judge(tuple(kept.name for kept in trained.kept))
        if isinstance(rulings, Yielded):
            return rulings
        result = FineTuneResult(
            made=trained.made,
            trained_tokens=trained.trained_tokens,
            kept=trained.kept,
            result=await self._store_metrics(),
            rulings=rulings,
        )
        for made in trained.made:
            if refusal := result.refusal(made.artefact):
                told = f"The fine-tuned model {made.artefact} is refused by the gate, and not served: {refusal}"
                raise JobFailed(told, code=REFUSED, result=encode(result))
        return encode(result)

    async def _judge(self, candidates: tuple[str, ...]) -> tuple[Ruling, ...] | Yielded:
        """Of each model that the run left."""
        judge, checked = self._workplace.judge, self._record.checked
        if judge is None or checked is None or not candidates:
            return ()
        self._context.progress(_JUDGING, 0, 0)
        tokenizer = await asyncio.to_thread(self._workplace.tokenizer, self._spec.base)
        case = await asyncio.to_thread(case_of, self._spec, checked.plan, candidates, self._context.folder, tokenizer)
        rulings = await judge(Undisturbed(self._context), case)
        for ruling in () if isinstance(rulings, Yielded) else rulings:
            said = f"is refused: {ruling.refusal}" if ruling.refusal else "passes"
            self._context.log(f"gate: {ruling.candidate} {said}", "error" if ruling.refusal else "info")
        return rulings

    async def _store_metrics(self) -> ResultFile | None:
        """As a content whose file appears when the job ends; None where nothing was measured."""
        points = await asyncio.to_thread(read_points, self._context.folder / METRICS_FILE, _MOST_POINTS)
        if not points:
            return None
        content = metrics_table(points)
        file_id = new_id("file", "-")
        draft = await self._workplace.blobs.create(f"files/{file_id}")
        try:
            await draft.write(content)
            info = await draft.commit()
        finally:
            await draft.abort()
        return ResultFile(file_id, info.key, info.bytes, info.sha256)


def _take(write: Callable[[bytes], int], feed: Callable[[bytes], None], piece: bytes) -> None:
    write(piece)
    feed(piece)

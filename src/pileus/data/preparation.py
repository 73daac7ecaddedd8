"""From files to a dataset, stage by stage: clean, deduplicate, tokenise, pack, report."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
from msgspec import Struct

from pileus.core.errors import OperatorError
from pileus.data import tokenising
from pileus.data.cleaning import Account
from pileus.data.contamination import runs_of
from pileus.data.crew import run_each
from pileus.data.duplicates import EXACT, KEPT, NEAR, Fates, Places, exact_duplicates, near_duplicates
from pileus.data.evaluation import texts_of
from pileus.data.heap import Heap
from pileus.data.inputs import Piece, find, pieces
from pileus.data.keeping import hand_over, keep
from pileus.data.packing import NARROW, Packed, packed_before
from pileus.data.piece import clean_piece, heap_of, made_in, pack_piece, pieces_in, runs_in
from pileus.data.report import Report, SplitReport, write_report
from pileus.data.shards import MANIFEST, TOKENIZER, Manifest, Shard
from pileus.data.spec import DataSpec, Prepared
from pileus.data.split import SPLITS, split_of
from pileus.jobs.handler import YIELDED, JobFailed, Yielded
from pileus.jobs.task import Task
from pileus.models.tokenizer_file import open_tokenizer
from pileus.store.job_table import Wish

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_PLAN, _RESULT = "plan.json", "result.json"
_OTHERS_TOLD: Final = 20
_BAD_TOLD: Final = 5
_NO_RULES: Final = {"empty", "exact_duplicate", "language", "contaminated"}  # why a document of any quality goes
_HINT: Final = "; `rules` has the limits of quality, and `--no-quality` does without"


class Plan(Struct, frozen=True):
    """What is read, as it was found at the job's beginning."""

    pieces: list[Piece]
    files: int
    others: list[str]
    other_count: int

    @property
    def size(self) -> int:
        return sum(part.size for piece in self.pieces for part in piece)


class At(Struct, frozen=True):
    """A checkpoint. What is done lies in the job's folder: this tells only how much."""

    stage: str
    done: int


class _Asked(Exception):
    """Something is asked of the job."""


def prepare(task: Task) -> Prepared | Yielded:
    """Make the dataset that the job's spec asks for. What cannot be done is a `JobFailed` that says why."""
    try:
        return _Preparation(task).run()
    except _Asked:
        return YIELDED
    except OperatorError as error:
        raise JobFailed(error.message, code="bad_data") from None
    except ModuleNotFoundError as error:
        raise JobFailed(f"{error.name} is not installed: `make extras` installs it", code="not_installed") from None


class _Preparation:
    """The stages of one job, in their order."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._spec = task.spec(DataSpec)
        self._out = Path(self._spec.out)
        self._made = made_in(task.folder)
        self._seconds: dict[str, float] = {}

    def run(self) -> Prepared:
        result = self._task.folder / _RESULT
        if result.exists() and (self._out / MANIFEST).exists():  # all was done, and nobody heard of it
            return msgspec.json.decode(result.read_bytes(), type=Prepared)
        if self._out.exists() and (not self._out.is_dir() or any(self._out.iterdir())):
            raise JobFailed(f"{self._out} is there already, and is not empty", code="out_exists")
        self._demand_room()
        self._made.mkdir(exist_ok=True)
        plan = self._plan()
        compared = self._evaluation_runs()
        heaps = self._clean(plan)
        account = self._total(heaps)
        fates = self._deduplicate(heaps)
        tokenizer = self._tokenizer(heaps, fates)
        packed = self._pack(fates)
        return self._finish(plan, compared, account, fates, tokenizer, packed)

    def _demand_room(self) -> None:
        """Raises `JobFailed` where the dataset could not be put in its place in the end."""
        try:
            self._out.parent.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=self._out.parent, prefix=f".{self._out.name}."):
                pass
        except OSError as error:
            raise JobFailed(f"{self._out} cannot be made: {error.strerror}", code="bad_out") from None

    def _plan(self) -> Plan:
        """Found once, so that a job that goes on has the same pieces."""
        kept = self._task.folder / _PLAN
        if kept.exists():
            return msgspec.json.decode(kept.read_bytes(), type=Plan)
        files, others = find(self._spec.inputs)
        if not files:
            raise OperatorError(f"there is no file of a known format in {', '.join(self._spec.inputs)}")
        told = [str(path) for path in others[:_OTHERS_TOLD]]
        plan = Plan(pieces(files, self._spec.piece_bytes), len(files), told, len(others))
        keep(kept, msgspec.json.encode(plan))
        self._task.log(f"{len(files)} files in {len(plan.pieces)} pieces, {len(others)} files left aside")
        return plan

    def _evaluation_runs(self) -> int:
        kept = runs_in(self._task.folder)
        if not kept.exists():
            with self._stage("reading evaluation sets"):
                np.save(kept, runs_of(texts_of(self._spec.evaluation)))
        return len(np.load(kept, mmap_mode="r"))

    def _clean(self, plan: Plan) -> list[Heap]:
        heaps = [heap_of(self._task.folder, self._spec, number) for number in range(len(plan.pieces))]
        missing = [
            (str(self._task.folder), self._spec, plan.pieces[number], number)
            for number, heap in enumerate(heaps)
            if not heap.is_there
        ]
        done = plan.size - sum(part.size for work in missing for part in work[2])
        with self._stage("cleaning"):
            self._task.progress("cleaning", done, plan.size)
            for size in self._each(clean_piece, missing):
                done += size
                self._task.checkpoint(At("cleaning", done), "cleaning", done, plan.size)
        return heaps

    def _total(self, heaps: list[Heap]) -> Account:
        """Raises `OperatorError` where no document is left."""
        total = Account()
        for heap in heaps:
            total.add(heap.account)
        for bad in total.bad_records[:_BAD_TOLD]:
            self._task.log(f"{bad.place}: {bad.reason}", "warning")
        if total.bad and not total.read:
            first = total.bad_records[0]
            raise OperatorError(f"none of {total.bad} records can be read; the first: {first.place}: {first.reason}")
        if not total.kept:
            reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(total.left_out.items()))
            hint = _HINT if total.left_out.keys() - _NO_RULES else ""
            raise OperatorError(f"of {total.read} documents none is left: {reasons or 'there was none'}{hint}")
        return total

    def _deduplicate(self, heaps: list[Heap]) -> list[Fates]:
        places = Places(heaps)
        fates = np.full(len(places), KEPT, np.uint8)
        stage = "finding duplicates"
        with self._stage(stage):
            if self._spec.exact:
                exact_duplicates(places, fates, self._spec.memory_bytes)
            if self._spec.near:
                similarity, memory_bytes = self._spec.similarity, self._spec.memory_bytes

                def told(done: int, total: int) -> None:
                    self._heed()
                    self._task.progress(stage, done, total)

                near_duplicates(places, fates, similarity, memory_bytes, told)
        return places.split(fates)

    def _tokenizer(self, heaps: list[Heap], fates: list[Fates]) -> "Tokenizer":
        """Trained on what is for training, or the one that is given."""
        kept = self._made / TOKENIZER
        if not kept.exists():
            with self._stage("training the tokenizer"):
                self._task.progress("training the tokenizer", 0, 0)
                keep(kept, self._given() if self._spec.tokenizer.file else self._trained(heaps, fates))
        return open_tokenizer(kept)

    def _given(self) -> bytes:
        """As it is, once it is known to be one."""
        file = Path(self._spec.tokenizer.file)
        tokenising.end_of_text(open_tokenizer(file), self._spec.tokenizer.end_of_text)
        return file.read_bytes()

    def _trained(self, heaps: list[Heap], fates: list[Fates]) -> bytes:
        asked = self._spec.tokenizer
        texts = tokenising.sampled(self._training_texts(heaps, fates), asked.sample_bytes)
        return tokenising.train(texts, asked).to_str(pretty=True).encode()

    def _training_texts(self, heaps: list[Heap], fates: list[Fates]) -> Iterator[str]:
        for heap, fate in zip(heaps, fates, strict=True):
            self._heed()
            splits = split_of(heap.digests()[:, 1], self._spec.validation, self._spec.test)
            yield from heap.texts((fate == KEPT) & (splits == SPLITS.index("train")))

    def _pack(self, fates: list[Fates]) -> list[Packed]:
        packed = {number: packed_before(self._made, number) for number in range(len(fates))}
        missing = [(str(self._task.folder), self._spec, n, fates[n]) for n, shards in packed.items() if shards is None]
        done = len(fates) - len(missing)
        with self._stage("packing"):
            for number, shards in self._each(pack_piece, missing):
                packed[number] = shards
                done += 1
                self._task.checkpoint(At("packing", done), "packing", done, len(fates))
        return [shards for shards in packed.values() if shards is not None]

    def _finish(
        self,
        plan: Plan,
        compared: int,
        account: Account,
        fates: list[Fates],
        tokenizer: "Tokenizer",
        packed: list[Packed],
    ) -> Prepared:
        manifest = _manifest(self._made, tokenizer, self._spec.tokenizer.end_of_text, packed)
        all_fates = np.concatenate(fates)
        report = Report(
            id=manifest.id,
            spec=self._spec,
            files=plan.files,
            input_bytes=plan.size,
            other_files=tuple(plan.others),
            other_file_count=plan.other_count,
            account=account,
            exact_duplicates=int(np.count_nonzero(all_fates == EXACT)),
            near_duplicates=int(np.count_nonzero(all_fates == NEAR)),
            evaluation_runs=compared,
            vocabulary=manifest.vocabulary,
            splits={name: _split_report(shards) for name, shards in manifest.splits.items()},
            seconds=self._seconds,
        )
        write_report(self._made, report)
        tokens = sum(split.tokens for split in report.splits.values())
        prepared = Prepared(dataset=manifest.id, folder=str(self._out), documents=report.documents, tokens=tokens)
        keep(self._made / MANIFEST, msgspec.json.encode(manifest))
        keep(self._task.folder / _RESULT, msgspec.json.encode(prepared))
        hand_over(self._made, self._out, "packed-*")
        shutil.rmtree(pieces_in(self._task.folder))
        return prepared

    def _each(self, work: Callable[..., Any], arguments: list[tuple[Any, ...]]) -> Iterator[Any]:
        yield from run_each(work, arguments, self._spec.processes, lambda: self._task.wish is not Wish.NONE)
        self._heed()

    def _heed(self) -> None:
        """Stop where something is asked: what is done is on the disk."""
        if self._task.wish is not Wish.NONE:
            raise _Asked

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        begun = monotonic()
        yield
        self._seconds[name] = monotonic() - begun


def _manifest(folder: Path, tokenizer: "Tokenizer", end_of_text: str, packed: list[Packed]) -> Manifest:
    """Its id is of all that training reads: tokenizer, splits and tokens."""
    splits = {split: [each[split] for each in packed if split in each] for split in SPLITS}
    digest = sha256((folder / TOKENIZER).read_bytes())
    for split, shards in splits.items():
        digest.update(f"{split} {' '.join(shard.sha256 for shard in shards)}\n".encode())
    vocabulary = tokenizer.get_vocab_size()
    return Manifest(
        id=f"dataset-{digest.hexdigest()[:24]}",
        width=2 if vocabulary <= NARROW else 4,
        vocabulary=vocabulary,
        end_of_text=tokenising.end_of_text(tokenizer, end_of_text),
        special_tokens=tokenising.special_tokens(tokenizer),
        splits={split: shards for split, shards in splits.items() if shards},
    )


def _split_report(shards: list[Shard]) -> SplitReport:
    documents, tokens = sum(shard.documents for shard in shards), sum(shard.tokens for shard in shards)
    return SplitReport(documents=documents, tokens=tokens, shards=len(shards))

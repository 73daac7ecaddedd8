"""The job `compress`: `python -m pileus.compression.process`.

For each variant: make its files, examine them, install them. Then all take turns to show their speed, and the report
is written. What is finished is on record by a checkpoint and lies in the job's folder; a training keeps its own
checkpoint (`learning`).
"""

import platform
import shutil
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from pileus.compression import measure, source
from pileus.compression.examining import Examination
from pileus.compression.libraries import demand_libraries
from pileus.compression.making import Files, Maker, seal
from pileus.compression.merging import merged
from pileus.compression.report import Report, Row, save, summary
from pileus.compression.spec import CompressSpec, Form, Target, Variant
from pileus.jobs.handler import YIELDED, JobFailed, Yielded
from pileus.jobs.task import Task, run_task
from pileus.models.artefact import MANIFEST, Artefact, digest_file
from pileus.models.catalogue import Catalogue
from pileus.models.perplexity import Interval
from pileus.models.registry import Made, Parent
from pileus.models.store import MODELS_FOLDER, ModelStore, require_space
from pileus.store.job_table import Wish

_RELATIONS: Final = {Form.PRUNED: "pruned from", Form.DISTILLED: "distilled from"}
_PARENT: Final = "parent"  # its folder in the job's
_MERGED: Final = "merged"  # of an adapter and its base, their weights' folder in the job's


class Finished(Struct, frozen=True, kw_only=True):
    """What a later process need not do again."""

    variants: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()  # the parent's first; no speeds yet
    made: tuple[Made, ...] = ()
    cache: dict[str, Interval] = {}


class Result(Struct, frozen=True, kw_only=True):
    """Of the job."""

    made: tuple[Made, ...]
    report: str  # folder
    rows: tuple[Row, ...]


def work(task: Task) -> Result | Yielded:
    return _Compression(task, task.spec(CompressSpec)).run()


class _Compression:
    def __init__(self, task: Task, spec: CompressSpec) -> None:
        self._task = task
        self._spec = spec
        self._finished = task.last(Finished) or Finished()
        models = task.settings.data_dir / MODELS_FOLDER
        self._store = ModelStore(models)
        origin = source.origin_of(self._store, spec.model)
        self._parent = origin.generator
        if not self._finished.rows:
            self._refuse_names()
            demand_libraries(spec.variants)
        task.progress("weights", 0, 0)
        catalogue = Catalogue(models, task.settings.models)
        self._weights = source.weights_of(catalogue, self._parent.name, spec.weights, task.progress)
        if origin.adapter is not None:
            folder = task.folder / _MERGED
            self._weights = merged(origin.adapter.path, self._parent.path, self._weights, folder)
        self._graph = source.graph_of(self._weights, self._parent.path, task.folder / _PARENT, task.progress)
        seal(self._graph, spec.model, self._parent)
        examiner = measure.Examiner(self._parent.path, spec.checks, spec.seed, self._parent.context_length)
        self._windows = examiner.windows
        wish = spec.texts
        sequences = measure.calibration(examiner, wish.file, wish.sequences, wish.length, spec.seed)
        self._maker = Maker(task, spec, self._parent, self._weights, self._graph, examiner, sequences)
        self._examination = Examination(examiner, self._graph, task.folder / "seen", task.progress)

    def run(self) -> Result | Yielded:
        if not self._finished.rows:
            self._examine_parent()
        for variant in self._spec.variants:
            if self._task.wish not in (Wish.NONE, Wish.PAUSE):
                break  # cancelled: what is finished is kept
            if variant.name in self._finished.variants:
                continue
            if self._task.wish is Wish.PAUSE or not self._vary(variant):
                return YIELDED
        return self._tell()

    def _refuse_names(self) -> None:
        for variant in self._spec.variants:
            if self._store.artefact(variant.name) is not None:
                raise JobFailed(
                    f"{variant.name} is installed already: remove it first, or choose another name", code="name_taken"
                )

    def _examine_parent(self) -> None:
        files = Files(self._graph, self._weights, "as it is, in float16")
        row = self._examination.row(self._spec.model, Target.NATIVE, files)
        cache = self._examination.caches(self._spec.checks.kv)
        self._keep(replace(self._finished, rows=(row,), cache=cache))
        self._task.log(summary(row))

    def _vary(self, variant: Variant) -> bool:
        """False where it was asked to pause, to be gone on with."""
        began = perf_counter()
        files = self._maker.make(variant)
        if files is None:
            return False
        took_s = perf_counter() - began
        finished = replace(self._finished, variants=(*self._finished.variants, variant.name))
        if variant.target == Target.VLLM:
            self._task.log(f"{variant.name}: vLLM's, in {files.folder}; not measured, since vLLM has to")
            self._keep(finished)
            return True
        row = replace(self._examination.row(variant.name, variant.target, files), made_in_s=took_s)
        artefact = self._install(variant.name, files)
        made = self._made(variant, artefact, row)
        self._keep(replace(finished, rows=(*finished.rows, row), made=(*finished.made, made)))
        self._task.log(summary(row))
        return True

    def _install(self, name: str, files: Files) -> Artefact:
        """Copies, so that the job's own stay what they are until it has ended."""
        store = self._store
        with store.hold(name, self._task.progress), store.scratch(name) as scratch:
            require_space(store.root, 2 * sum(file.stat().st_size for file in files.folder.iterdir()))
            shutil.copytree(files.folder, scratch / "artefact")
            if files.weights != self._weights:
                shutil.copytree(files.weights, scratch / "master")
                store.keep_master(scratch / "master", name)
            return store.install(scratch / "artefact", name)

    def _made(self, variant: Variant, artefact: Artefact, row: Row) -> Made:
        parent = Parent("artefact", self._spec.model, _RELATIONS.get(variant.to, "compressed from"))
        return Made(
            model=variant.name,
            artefact=variant.name,
            kind=artefact.manifest.kind,
            sha256=digest_file(artefact.path / MANIFEST).sha256,
            size_bytes=artefact.size_bytes,
            licence=artefact.licence,
            parents=(parent,),
            figures={"perplexity": row.perplexity.value, "perplexity_ratio": row.perplexity_ratio.value}
            | ({"task": row.task.value} if row.task else {}),
            notes=row.how,
        )

    def _keep(self, finished: Finished) -> None:
        self._finished = finished
        done, total = len(finished.variants), len(self._spec.variants)
        self._task.checkpoint(finished, "compressed", done, total)

    def _tell(self) -> Result:
        rows = self._finished.rows
        if self._spec.checks.speed_rounds and self._task.wish is Wish.NONE:
            folders = {row.name: self._folder(row.name) for row in rows}
            rows = self._examination.timed(rows, folders, self._spec.checks)
        folder = self._report_folder()
        save(self._report(rows), folder)
        for row in rows:
            self._task.log(summary(row))
        self._task.log(f"report: {folder}")
        return Result(made=self._finished.made, report=str(folder), rows=rows)

    def _folder(self, name: str) -> Path:
        return self._graph if name == self._spec.model else self._task.folder / "variants" / name / name

    def _report_folder(self) -> Path:
        named = self._spec.variants[0].name if len(self._spec.variants) == 1 else self._spec.model
        return Path(self._spec.report or self._task.settings.data_dir / "reports" / "compression" / named)

    def _report(self, rows: tuple[Row, ...]) -> Report:
        spec, checks = self._spec, self._spec.checks
        length = f"{spec.texts.sequences} stretches of {spec.texts.length} tokens of "
        return Report(
            model=spec.model,
            at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            machine=f"{platform.machine()}, {_processor()}",
            calibration=length + (spec.texts.file or "the built-in generator"),
            text=checks.text or "the built-in generator",
            tokens=self._examination.tokens,
            windows=f"windows of {self._windows.length}, {self._windows.stride} at a time",
            rows=rows,
            cache=self._finished.cache,
        )


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown processor"
    )


if __name__ == "__main__":
    run_task(work)

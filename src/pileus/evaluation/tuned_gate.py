"""The gate at the end of a fine-tuning: what it made is judged beside its base before anybody is served by it."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.json import encode

from pileus.core.errors import OperatorError
from pileus.evaluation.handler import Run
from pileus.evaluation.measuring import Item, Measured, Measurement, TunedMeasure
from pileus.evaluation.records import GateResult
from pileus.jobs.handler import YIELDED, Context, JobFailed, Yielded
from pileus.models.artefact import MANIFEST, digest_file


class TunedCase(Struct, frozen=True, kw_only=True):
    """What is to be judged. Models are names of artefacts."""

    base: str
    candidates: tuple[str, ...]
    items: tuple[Item, ...]
    held_out: bool  # nothing was learnt from the items
    margin: float  # nats: see `tuned.loss_finding`
    beta: float = 0.0  # of preferences


class TunedGate:
    """For job workers. `folder` is of an artefact's name, and raises `OperatorError` where there is none."""

    def __init__(self, folder: Callable[[str], Path], measure: Run) -> None:
        self._folder = folder
        self._measure = measure

    async def judge(self, context: Context, case: TunedCase) -> tuple[GateResult, ...] | Yielded:
        """Of each candidate, in order. Raises `JobFailed` where they cannot be judged."""
        names = (case.base, *case.candidates)
        folders, sums = await asyncio.to_thread(self._state, names)
        wish = TunedMeasure(
            candidates=tuple(map(str, folders[1:])),
            base=str(folders[0]),
            items=case.items,
            held_out=case.held_out,
            margin=case.margin,
            beta=case.beta,
        )
        given = await self._measure(context, encode(Measurement(tuned=wish)))
        if isinstance(given, Yielded):
            return YIELDED
        found = msgspec.json.decode(given, type=Measured).tuned
        if (await asyncio.to_thread(self._state, names))[1] != sums:
            raise JobFailed("A model was replaced while it was being judged: resume the job.", code="model_changed")
        return tuple(
            GateResult(
                candidate=name,
                sha256=digest,
                parent=case.base,
                parent_sha256=sums[0],
                margins=None,
                passed=all(finding.passed for finding in findings),
                findings=findings,
            )
            for name, digest, findings in zip(case.candidates, sums[1:], found, strict=True)
        )

    def _state(self, names: tuple[str, ...]) -> tuple[list[Path], list[str]]:
        """Folders, and digests of manifests."""
        try:
            folders = [self._folder(name) for name in names]
        except OperatorError as error:
            raise JobFailed(error.message, code=error.code) from None
        return folders, [digest_file(folder / MANIFEST).sha256 for folder in folders]

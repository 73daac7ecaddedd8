"""Rows of the report: each model beside its parent, on the same tokens and the same items."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from pileus.compression import measure
from pileus.compression.gguf_target import GGUF_FILE
from pileus.compression.making import Files
from pileus.compression.report import Rate, Row
from pileus.compression.spec import Checks, Target
from pileus.models.convert.huggingface import FolderWeights, read_json
from pileus.models.perplexity import Interval, perplexity_interval, ratio_interval
from pileus.models.progress import Progress


class Examination:
    """Of one parent and its variants. What the parent made of the texts is kept in `folder`, for a later process."""

    def __init__(self, examiner: measure.Examiner, parent: Path, folder: Path, progress: Progress) -> None:
        self._examiner = examiner
        self._parent_folder = parent
        self._file = folder.with_suffix(".npz")
        self._progress = progress
        self._parent: measure.Seen | None = None

    @property
    def tokens(self) -> int:
        return self._examiner.tokens

    def row(self, name: str, target: Target, files: Files) -> Row:
        """Without its speed."""
        parent = self._of_parent()
        seen = parent if files.folder == self._parent_folder else self._examiner.examine(files.folder, self._progress)
        gguf = files.folder / GGUF_FILE
        parameters, zeros = _count(files.weights)
        return Row(
            name=name,
            how=files.how,
            target=target,
            size_bytes=measure.size_of(files.folder, gguf if gguf.exists() else None),
            parameters=parameters,
            zeros=zeros,
            perplexity=perplexity_interval(seen.losses),
            perplexity_ratio=ratio_interval(seen.losses, parent.losses),
            task=measure.share_interval(seen.right),
            task_difference=measure.share_interval(seen.right, parent.right),
            notes=files.notes,
        )

    def caches(self, precisions: Sequence[str]) -> dict[str, Interval]:
        """The parent's perplexity with keys and values in each of these precisions."""
        return {
            precision: perplexity_interval(self._examiner.losses(self._parent_folder, precision, self._progress))
            for precision in precisions
        }

    def timed(self, rows: Sequence[Row], folders: dict[str, Path], checks: Checks) -> tuple[Row, ...]:
        """With their speeds."""
        speeds = measure.speeds(folders, checks, self._progress)
        return tuple(_timed(row, speeds[row.name]) for row in rows)

    def _of_parent(self) -> measure.Seen:
        if self._parent is None and self._file.exists():
            with np.load(self._file) as kept:
                self._parent = measure.Seen(kept["losses"], kept["right"])
        if self._parent is None:
            self._parent = self._examiner.examine(self._parent_folder, self._progress)
            draft = self._file.with_name(f".{self._file.name}")
            with draft.open("wb") as written:
                np.savez(written, losses=self._parent.losses, right=self._parent.right)
            draft.rename(self._file)
        return self._parent


def _timed(row: Row, speeds: Sequence[measure.Speed]) -> Row:
    rates = {requests: Rate(*measure.middle(speeds, requests)) for requests in measure.TOGETHER}
    return replace(row, tokens_per_s=rates, memory_bytes=max(speed.memory_bytes for speed in speeds))


def _count(weights: Path) -> tuple[int, float]:
    """Parameters, and the share of the matrices' weights that are nought."""
    folder = FolderWeights(weights)
    folder.settle_head(tied=bool(read_json(weights / "config.json").get("tie_word_embeddings", False)))
    parameters = zeros = in_matrices = 0
    for name in folder.names():
        values = folder.dense(name)
        parameters += values.size
        if values.ndim == 2:
            in_matrices += values.size
            zeros += values.size - int(np.count_nonzero(values))
    return parameters, zeros / max(in_matrices, 1)

"""What the gate is asked at the end of a fine-tuning: which models were made of which base, and on what to try them."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from msgspec import Struct

from pileus.core.ports import Tokenizer
from pileus.jobs.handler import Context, Yielded
from pileus.store.job_table import Wish
from pileus.training.finetune.encoding import Encoded, Encoder, pieces
from pileus.training.finetune.examples import Preference, read_examples
from pileus.training.finetune.records import TRAINING_FILE, VALIDATION_FILE, FineTuneSpec, Method, Plan, Ruling

_HELD_OUT: Final = 200  # items, the first ones
_LEARNT: Final = 50  # where none are held out
_LOOK_S: Final = 0.2

Item = tuple[Encoded, ...]  # an answer behind its prompt; or a better one and a worse


class Case(Struct, frozen=True, kw_only=True):
    """Models are names of artefacts."""

    base: str
    candidates: tuple[str, ...]
    items: tuple[Item, ...]
    held_out: bool  # nothing was learnt from the items
    beta: float  # of preferences


# Of each candidate, in order.
Judge = Callable[[Context, Case], Awaitable[tuple[Ruling, ...] | Yielded]]


def case_of(spec: FineTuneSpec, plan: Plan, candidates: tuple[str, ...], folder: Path, tokenizer: Tokenizer) -> Case:
    """On the validation's items; without any, on some that were learnt. `folder` has the files. Blocks."""
    held_out = spec.validation is not None
    name, most = (VALIDATION_FILE, _HELD_OUT) if held_out else (TRAINING_FILE, _LEARNT)
    encoder = Encoder(tokenizer, plan.max_length)
    return Case(
        base=spec.base,
        candidates=candidates,
        items=tuple(islice(_items(folder / name, spec.method, encoder), most)),
        held_out=held_out,
        beta=plan.beta,
    )


def _items(path: Path, method: Method, encoder: Encoder) -> Iterator[Item]:
    for example in read_examples(path, method):
        if isinstance(example, Preference):
            yield encoder.preference(example)
        else:
            yield from ((piece,) for piece in pieces(encoder, example))


class Undisturbed:
    """Meets `jobs.handler.Context`: what is cancelled is judged all the same, for its checkpoints can be used; only a
    pause is heeded, after which it is judged anew."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.job, self.folder = context.job, context.folder
        self.checkpoint, self.progress, self.log = context.checkpoint, context.progress, context.log

    @property
    def wish(self) -> Wish:
        return Wish.PAUSE if self._context.wish is Wish.PAUSE else Wish.NONE

    async def wished(self) -> Wish:
        while True:
            if await self._context.wished() is Wish.PAUSE:
                return Wish.PAUSE
            await asyncio.sleep(_LOOK_S)

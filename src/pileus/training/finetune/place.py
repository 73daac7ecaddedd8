"""Where what a fine-tuning makes can be served: found out before anything is computed."""

import asyncio
from collections.abc import Callable
from shlex import quote
from typing import Protocol

from msgspec import Struct

from pileus.core.errors import InvalidRequest, ModelNotFound, NotServable, OperatorError
from pileus.fleet.directory import Directory
from pileus.training.finetune.plan import RANK
from pileus.training.finetune.records import FineTuneSpec, Wishes


class Bases(Protocol):
    """What may be fine-tuned."""

    def check_tunable(self, name: str) -> None:
        """Raises `OperatorError` with the reason why not. Blocks."""
        ...


class Place(Struct, frozen=True):
    """What learns, and who serves that then."""

    deployment: str  # empty where none does
    base: str  # the model's name in the catalogue


class Places:
    """`served_rank` is the largest rank of an adapter that a deployment takes; 0 where it takes none."""

    def __init__(self, directory: Directory, bases: Bases, served_rank: Callable[[str], int]) -> None:
        self._directory = directory
        self._bases = bases
        self._served_rank = served_rank

    async def find(self, model: str, wishes: Wishes) -> Place:
        """Of a deployment's name, or a model's. An adapter of a model by its own name is for the deployment of it that
        takes the largest. Raises `ModelNotFound`, `InvalidRequest`, or `NotServable` where nobody could use it."""
        place = await self._named(model)
        if wishes.adaptation == "full":
            return place
        ranks = {name: self._served_rank(name) for name in self._serving(place.base)}
        if ranks and not place.deployment:
            place = Place(max(ranks, key=ranks.__getitem__), place.base)
        if ranks:
            _check_rank(place, ranks, wishes.rank or RANK)
        return place

    async def _named(self, model: str) -> Place:
        """As it is when this returns: what is deployed may change while it is looked at."""
        while True:
            place, missing = self._look_up(model)
            try:
                await asyncio.to_thread(self._bases.check_tunable, place.base)
            except OperatorError as error:
                if missing is not None:
                    raise missing from None
                words = f"The model {model} cannot be fine-tuned: {error.message}"
                raise InvalidRequest(words, param="model") from None
            if self._look_up(model)[0] == place:
                return place

    def _look_up(self, model: str) -> tuple[Place, ModelNotFound | None]:
        """With what to raise where it is no model's own name either."""
        try:
            info = self._directory.resolve(model)
        except ModelNotFound as unknown:
            return Place("", model), unknown
        return Place(info.name, info.model), None

    def _serving(self, base: str) -> list[str]:
        return [name for name in self._directory.deployments() if self._directory.info(name).model == base]


def _check_rank(place: Place, ranks: dict[str, int], rank: int) -> None:
    """Raises `InvalidRequest` where an adapter of that rank could not be served there, and says what to do."""
    most = ranks[place.deployment]
    others = [name for name, limit in ranks.items() if limit >= rank]
    if not most:
        instead = (
            f"name {others[0]}, which serves this model with adapters"
            if others
            else f"have {place.base} deployed with adapters (its engine's option `adapters`)"
        )
        raise NotServable(
            f"The deployment {place.deployment} serves no adapters, so nobody could use what is learnt: {instead}, or "
            "ask for a model of its own (`adaptation`: `full`).",
            param="model",
        )
    if rank > most:
        words = f"The deployment {place.deployment} serves adapters up to rank {most} (its option `adapter_rank`)."
        raise InvalidRequest(words, param="rank")


def prospect(spec: FineTuneSpec, tenant: str) -> str:
    """How the result is served, for people. An adapter is its tenant's alone, whoever has it served."""
    if spec.wishes.adaptation == "full":
        return (
            f"What is learnt becomes {spec.output}, a model of its own: `pileus deploy NAME {spec.output}` serves it."
        )
    if spec.deployment:
        return f"What is learnt is served as {spec.output} once the job has succeeded."
    return (
        f"No deployment serves {spec.base}, so what is learnt is not served by itself: an administrator does, with "
        f"`pileus deploy NAME {spec.base}` and then "
        f"`pileus adapters add NAME {spec.adapter} {spec.output} --tenant {quote(tenant)}`."
    )

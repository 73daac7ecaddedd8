"""Fine-tunings for whoever asks: made, looked at, paused, cancelled. What goes on with them is their jobs'."""

import asyncio
import random
import re
from collections.abc import Mapping
from typing import Final, Protocol

from msgspec import Struct
from msgspec.json import encode
from sqlalchemy import Connection

from pileus.config.settings import NAME_PATTERN, FineTuning
from pileus.core.clock import Clock
from pileus.core.errors import InvalidRequest, NotFound, PermissionDenied, QuotaExceeded
from pileus.core.ids import new_id
from pileus.core.records import Principal
from pileus.jobs.service import JobService
from pileus.security.permission import Permission
from pileus.store.file_table import find_file
from pileus.store.job_table import Job, JobLine
from pileus.store.port import Store
from pileus.training.finetune.place import Place, Places, prospect
from pileus.training.finetune.records import KIND, PURPOSE, FineTuneSpec, Kept, Method, Source, Wishes
from pileus.training.finetune.view import FineTuneEvent, FineTuneView, checkpoint_id, event_id, events, view

_MOST_LINES: Final = 1000  # as many as are kept
_MOST_POINTS: Final = 5000
_WAIT_S: Final = 60.0
_SUFFIX_LIMIT: Final = 40  # characters of it in a model's name
_MARK_LENGTH: Final = 8  # characters that make the name unique


class FineTuneWish(Struct, frozen=True, kw_only=True):
    """What somebody asks for."""

    model: str
    training_file: str
    validation_file: str | None = None
    method: Method = Method.SUPERVISED
    wishes: Wishes = Wishes()
    suffix: str | None = None
    seed: int | None = None
    metadata: Mapping[str, str] | None = None
    legacy: bool = False


class FineTuneService:
    """For one event loop."""

    def __init__(
        self,
        jobs: JobService,
        store: Store,
        places: Places,
        settings: FineTuning,
        clock: Clock,
    ) -> None:
        self._jobs = jobs
        self._store = store
        self._places = places
        self._settings = settings
        self._clock = clock

    async def create(self, principal: Principal, wish: FineTuneWish) -> FineTuneView:
        """On record when this returns. Raises `PermissionDenied`, `QuotaExceeded`, `ModelNotFound`, or
        `InvalidRequest` naming the field, also where nobody could use what would be learnt."""
        if wish.wishes.adaptation == "full" and Permission.MODELS_MANAGE not in principal.permissions:
            raise PermissionDenied("Full fine-tuning makes a model of its own, which only administrators may.")
        place = await self._places.find(wish.model, wish.wishes)
        if await self._jobs.count_open(KIND, principal.tenant) >= self._settings.max_open:
            raise QuotaExceeded(
                f"There are {self._settings.max_open} fine-tuning jobs that have not ended: wait.",
                retry_after_s=_WAIT_S,
            )

        def work(tx: Connection) -> Job:
            training = self._source(tx, principal, wish.training_file, "training_file")
            held_out = None
            if wish.validation_file is not None:
                held_out = self._source(tx, principal, wish.validation_file, "validation_file")
            job = self._draft(principal, wish, place, training, held_out)
            self._jobs.submit_in(tx, job)
            return job

        created = self._view(await self._store.write(work))
        self._jobs.tell(created.job.id, "info", prospect(created.spec, created.job.tenant))
        self._jobs.wake(KIND)
        return created

    async def get(self, principal: Principal, job_id: str) -> FineTuneView:
        """Raises `NotFound`, also for another tenant's."""
        return self._view(await self._job(principal, job_id))

    async def latest(
        self, principal: Principal, limit: int, after: str = "", metadata: Mapping[str, str] | None = None
    ) -> tuple[list[FineTuneView], bool]:
        """The tenant's latest first, from the one behind `after` on, and whether more follow; with these metadata."""
        before = (await self._job(principal, after)).sequence if after else None
        found: list[FineTuneView] = []
        while len(found) <= limit:
            jobs = await self._jobs.latest(principal.tenant, kind=KIND, before=before, limit=limit + 1)
            views = map(self._view, jobs)
            found += [each for each in views if (metadata or {}).items() <= (each.spec.metadata or {}).items()]
            if len(jobs) <= limit:
                break
            before = jobs[-1].sequence
        return found[:limit], len(found) > limit

    async def events(
        self, principal: Principal, job_id: str, limit: int, after: str = ""
    ) -> tuple[list[FineTuneEvent], bool]:
        """What it told, the latest first, from the one behind `after` on, and whether more follow."""
        job = await self._job(principal, job_id)
        lines: list[JobLine] = await self._jobs.lines(job.id, None, _MOST_LINES)
        if after:
            lines = lines[: _behind([event_id(job.id, line.sequence) for line in lines], after)]
        points = await asyncio.to_thread(self._jobs.points, job.id, _MOST_POINTS)
        found = list(events(job.id, lines[-limit:] if limit else [], points))
        return found, len(lines) > limit

    async def checkpoints(
        self, principal: Principal, job_id: str, limit: int, after: str = ""
    ) -> tuple[list[Kept], bool]:
        """Its models that can be used, the latest first, from the one behind `after` on, and whether more follow."""
        kept = list(self._view(await self._job(principal, job_id)).kept)
        if after:
            kept = kept[: _behind([checkpoint_id(job_id, each.step) for each in kept], after)]
        return kept[::-1][:limit], len(kept) > limit

    async def cancel(self, principal: Principal, job_id: str) -> FineTuneView:
        """Have it end; the checkpoints are kept. Raises `NotFound`, or `NotPossible` where it has ended."""
        return await self._act(self._jobs.cancel, principal, job_id)

    async def pause(self, principal: Principal, job_id: str) -> FineTuneView:
        """Have it wait. Raises as `cancel`."""
        return await self._act(self._jobs.pause, principal, job_id)

    async def resume(self, principal: Principal, job_id: str) -> FineTuneView:
        """Have it go on where it was. Raises as `cancel`."""
        return await self._act(self._jobs.resume, principal, job_id)

    # --- inside -------------------------------------------------------------------------------------------------------

    async def _act(self, act: "Act", principal: Principal, job_id: str) -> FineTuneView:
        await self._job(principal, job_id)
        return self._view(await act(job_id, principal, principal.tenant))

    def _view(self, job: Job) -> FineTuneView:
        return view(job, self._clock.wall())

    async def _job(self, principal: Principal, job_id: str) -> Job:
        job = await self._jobs.get(job_id, principal.tenant)
        if job.kind != KIND:
            raise NotFound(f"There is no fine-tuning job {job_id!r}.")
        return job

    def _source(self, tx: Connection, principal: Principal, file_id: str, field: str) -> Source:
        file = find_file(tx, principal.tenant, file_id, self._clock.wall())
        if file is None:
            raise InvalidRequest(f"There is no file {file_id!r}.", param=field)
        if file.purpose != PURPOSE:
            words = f"The file {file_id} was stored for the purpose {file.purpose}: examples need `{PURPOSE}`."
            raise InvalidRequest(words, param=field)
        if file.bytes > self._settings.max_bytes:
            raise InvalidRequest(f"The file {file_id} has more than {self._settings.max_bytes} bytes.", param=field)
        return Source(file.id, file.blob, file.bytes)

    def _draft(
        self,
        principal: Principal,
        wish: FineTuneWish,
        place: Place,
        training: Source,
        held_out: Source | None,
    ) -> Job:
        job_id = new_id("ftjob", "-")
        adapter = adapter_name(wish.suffix, job_id)
        output = f"{place.deployment or place.base}:{adapter}"
        if not re.fullmatch(NAME_PATTERN, output):
            raise InvalidRequest(f"The fine-tuned model's name, {output}, is too long.", param="suffix")
        spec = FineTuneSpec(
            model=wish.model,
            deployment=place.deployment,
            base=place.base,
            adapter=adapter,
            output=output,
            training=training,
            validation=held_out,
            method=wish.method,
            wishes=wish.wishes,
            seed=random.randrange(2**31) if wish.seed is None else wish.seed,  # noqa: S311  # no secret
            suffix=wish.suffix,
            metadata=None if wish.metadata is None else dict(wish.metadata),
            legacy=wish.legacy,
        )
        blobs = [source.blob for source in (training, held_out) if source is not None]
        return self._jobs.draft(
            KIND, principal.tenant, principal.key_id, encode(spec), blobs=tuple(dict.fromkeys(blobs)), job_id=job_id
        )


class Act(Protocol):
    """Something that is asked of a job."""

    async def __call__(self, job_id: str, by: Principal, tenant: str | None) -> Job: ...


def adapter_name(suffix: str | None, job_id: str) -> str:
    """Of what was learnt, beside its base: people's own word, and what makes it unique."""
    word = re.sub(r"[^a-z0-9._-]+", "-", (suffix or "").lower()).strip("-._")[:_SUFFIX_LIMIT] or "ft"
    return f"{word}-{job_id.partition('-')[2][:_MARK_LENGTH]}"


def _behind(ids: list[str], after: str) -> int:
    """How many of a list, oldest first, come behind this one where the latest is told first."""
    try:
        return ids.index(after)
    except ValueError:
        raise NotFound(f"There is no {after!r} here.") from None

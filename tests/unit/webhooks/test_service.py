"""Who is told of what, over a real store and the rules of real jobs."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec import Struct
from msgspec.json import decode

from pileus.config.settings import Jobs
from pileus.core.errors import InvalidRequest, NotFound, Unavailable
from pileus.core.records import Principal
from pileus.jobs.handler import Kind
from pileus.jobs.service import JobService
from pileus.store.job_table import Job, JobState
from pileus.store.sqlite import SqliteStore
from pileus.testing.clock import ManualClock
from pileus.webhooks.addresses import AddressRefused
from pileus.webhooks.delivery import DeliverySpec
from pileus.webhooks.service import WebhookService

BOSS = Principal("key_1", "acme", "admin", frozenset())
OTHER = Principal("key_2", "other", "admin", frozenset())
KINDS = (Kind(name="batch"), Kind(name="background"), Kind(name="tune"), Kind(name="webhook"))


class Desk(Struct, frozen=True):
    store: SqliteStore
    jobs: JobService
    webhooks: WebhookService
    clock: ManualClock

    async def end(self, kind: str, state: JobState, by: Principal = BOSS) -> Job:
        """A job of that kind that has ended so."""
        job = await self.jobs.submit(kind, by, b"{}", due_at=0.0 if state is JobState.EXPIRED else None)
        if state is JobState.CANCELLED:
            return await self.jobs.cancel(job.id, by, None)
        if state is JobState.EXPIRED:
            await self.jobs.tick()
            return await self.jobs.get(job.id, None)
        [leased] = await self.jobs.lease(kind, 1)
        if state is JobState.SUCCEEDED:
            await self.jobs.finish(job.id, leased.fence, b"{}")
        else:
            await self.jobs.fail(job.id, leased.fence, "x", "it did not work", retry=False)
        return await self.jobs.get(job.id, None)

    async def deliveries(self) -> list[tuple[Job, DeliverySpec]]:
        """The oldest first."""
        found = await self.jobs.latest(None, kind="webhook")
        return [(job, decode(job.spec, type=DeliverySpec)) for job in reversed(found)]

    async def told(self) -> list[tuple[str, str, str]]:
        """Of each delivery: the URL, the event and its subject."""
        return [(spec.url, spec.event.type, spec.event.data.id) for _, spec in await self.deliveries()]


@asynccontextmanager
async def desk(folder: Path) -> AsyncIterator[Desk]:
    async def resolve(host: str, port: int) -> list[str]:
        if host == "inside.example":
            raise AddressRefused("it is inside")
        return ["8.8.8.8"]

    clock = ManualClock(time.time())
    store = SqliteStore.open(folder)
    try:
        jobs = JobService(store, KINDS, Jobs(), folder / "jobs", clock)
        yield Desk(store, jobs, WebhookService(store, jobs, lambda each: each.encode() * 2, resolve, clock), clock)
    finally:
        store.close()


async def test_an_end_is_told_to_those_of_its_tenant_who_want_to_know_it(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        await at.webhooks.add("https://a.example/all", BOSS)
        at.clock.advance(1.0)
        await at.webhooks.add("https://a.example/some", BOSS, events=["batch.failed", "background.completed"])
        await at.webhooks.add("https://b.example/", BOSS, tenant="other")
        ends = [
            await at.end("batch", JobState.SUCCEEDED),
            await at.end("background", JobState.SUCCEEDED),
            await at.end("batch", JobState.CANCELLED, OTHER),
            await at.end("tune", JobState.SUCCEEDED),
        ]
        assert await at.told() == [
            ("https://a.example/all", "batch.completed", ends[0].id),
            ("https://a.example/all", "background.completed", ends[1].id),
            ("https://a.example/some", "background.completed", ends[1].id),
            ("https://b.example/", "batch.cancelled", ends[2].id),
        ]
        deliveries = await at.deliveries()
        assert [job.tenant for job, _ in deliveries] == ["acme", "acme", "acme", "other"]
        assert deliveries[1][1].event == deliveries[2][1].event  # one event, whoever is told
        assert len({spec.event.id for _, spec in deliveries}) == 3


@pytest.mark.parametrize(
    ("kind", "state", "event"),
    [
        ("batch", JobState.SUCCEEDED, "batch.completed"),
        ("batch", JobState.FAILED, "batch.failed"),
        ("batch", JobState.EXPIRED, "batch.expired"),
        ("batch", JobState.CANCELLED, "batch.cancelled"),
        ("background", JobState.SUCCEEDED, "background.completed"),
        ("background", JobState.FAILED, "background.failed"),
        ("background", JobState.EXPIRED, "background.failed"),
        ("background", JobState.CANCELLED, "background.cancelled"),
    ],
)
async def test_every_end_has_its_name(tmp_path: Path, kind: str, state: JobState, event: str) -> None:
    async with desk(tmp_path) as at:
        await at.webhooks.add("https://a.example/", BOSS)
        ended = await at.end(kind, state)
        assert ended.state is state
        assert [told[1:] for told in await at.told()] == [(event, ended.id)]


async def test_what_is_told_stands_or_falls_with_the_end_itself(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        await at.webhooks.add("https://a.example/", BOSS)
        at.jobs.on_ended.append(_no_more)
        job = await at.jobs.submit("batch", BOSS, b"{}")
        with pytest.raises(Unavailable):
            await at.jobs.cancel(job.id, BOSS, None)
        assert (await at.jobs.get(job.id, None)).state is JobState.QUEUED
        assert await at.told() == []


def _no_more(*_: object) -> None:
    raise Unavailable("the disk is full", retry_after_s=1.0)


async def test_to_add_a_url_again_changes_its_events_and_keeps_its_secret(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        first, secret = await at.webhooks.add("https://a.example/", BOSS)
        again, same = await at.webhooks.add("https://a.example/", BOSS, events=["batch.failed"])
        assert (again.id, same) == (first.id, secret)
        assert secret.startswith("whsec_")
        assert [each.events for each in await at.webhooks.all()] == [("batch.failed",)]
        other, another = await at.webhooks.add("https://a.example/", BOSS, tenant="other")
        assert other.id != first.id
        assert another != secret


@pytest.mark.parametrize(
    ("wishes", "param"),
    [
        ({"url": "https://inside.example/"}, "url"),
        ({"url": "ftp://a.example/"}, "url"),
        ({"url": "https://a.example/", "events": []}, "events"),
        ({"url": "https://a.example/", "events": ["batch.eaten"]}, "events"),
        ({"url": "https://a.example/", "tenant": " "}, "tenant"),
    ],
)
async def test_what_cannot_be_told_is_refused_at_once(tmp_path: Path, wishes: dict[str, str], param: str) -> None:
    async with desk(tmp_path) as at:
        with pytest.raises((InvalidRequest, AddressRefused)) as caught:
            await at.webhooks.add(**wishes, by=BOSS)  # type: ignore[arg-type]
        assert caught.value.param == param
        assert await at.webhooks.all() == []


async def test_who_is_removed_is_told_no_more_also_not_of_what_is_on_its_way(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        kept, _ = await at.webhooks.add("https://a.example/kept", BOSS)
        at.clock.advance(1.0)
        removed, _ = await at.webhooks.add("https://a.example/removed", BOSS)
        await at.end("batch", JobState.SUCCEEDED)
        await at.webhooks.remove(removed.id, BOSS)
        await at.end("batch", JobState.FAILED)
        assert [(job.state, spec.webhook) for job, spec in await at.deliveries()] == [
            (JobState.QUEUED, kept.id),
            (JobState.CANCELLED, removed.id),
            (JobState.QUEUED, kept.id),
        ]
        with pytest.raises(NotFound):
            await at.webhooks.remove(removed.id, BOSS)


async def test_a_delivery_is_shown_with_what_became_of_each_try(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        webhook, _ = await at.webhooks.add("https://a.example/", BOSS)
        other, _ = await at.webhooks.add("https://b.example/", BOSS)
        job = await at.webhooks.test(webhook.id, BOSS)
        [leased] = await at.jobs.lease("webhook", 1)
        await at.jobs.fail(job.id, leased.fence, "undelivered", "a.example answered 500", retry=True)
        await at.jobs.write_lines()
        delivery = await at.webhooks.delivery(webhook.id, job.id)
        assert (delivery.spec.event.type, delivery.job.failures) == ("webhook.test", 1)
        assert [line.text for line in delivery.lines] == ["a.example answered 500"]
        for webhook_id, job_id in ((other.id, job.id), (webhook.id, (await at.end("batch", JobState.FAILED)).id)):
            with pytest.raises(NotFound):
                await at.webhooks.delivery(webhook_id, job_id)

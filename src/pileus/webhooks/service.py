"""Who is told of what, and the queueing of what is told."""

from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Struct, structs
from msgspec.json import decode, encode
from sqlalchemy import Connection

from pileus.core.clock import Clock
from pileus.core.errors import InvalidRequest, NotFound
from pileus.core.ids import new_id
from pileus.core.records import AuditEvent, Principal
from pileus.jobs.machine import NotPossible
from pileus.jobs.service import JobService
from pileus.store.job_table import Job, JobLine, JobState, JobTable
from pileus.store.port import Store
from pileus.store.tables import AuditTable
from pileus.store.webhook_table import Webhook, WebhookTable
from pileus.webhooks.addresses import Resolve, port_of, read_url
from pileus.webhooks.delivery import KIND, DeliverySpec
from pileus.webhooks.events import EVENT_TYPES, TEST, Event, Subject, type_of
from pileus.webhooks.signing import shown_secret

_MOST_WEBHOOKS: Final = 100  # of a tenant
_TENANT_LIMIT: Final = 128  # characters
_LINES_SHOWN: Final = 100


class Delivery(Struct, frozen=True):
    """A delivery, and what became of each try, oldest first."""

    job: Job
    spec: DeliverySpec
    lines: list[JobLine]


class WebhookService:
    """For one event loop; but `on_ended` is called in the store's thread."""

    def __init__(
        self, store: Store, jobs: JobService, secret_of: Callable[[str], bytes], resolve: Resolve, clock: Clock
    ) -> None:
        self._store = store
        self._jobs = jobs
        self._secret_of = secret_of
        self._resolve = resolve
        self._clock = clock
        self._table, self._job_table, self._audit = WebhookTable(), JobTable(), AuditTable()
        jobs.on_ended.append(self.on_ended)

    async def add(
        self, url: str, by: Principal, *, events: Sequence[str] = EVENT_TYPES, tenant: str | None = None
    ) -> tuple[Webhook, str]:
        """Tell that URL of these events of a tenant, and the secret that signs them. To add a URL again changes its
        events, and keeps its secret. Raises `AddressRefused` and the like for a URL that may not be."""
        unknown = [each for each in events if each not in EVENT_TYPES]
        if unknown or not events:
            raise InvalidRequest(f"`events` should be of {', '.join(EVENT_TYPES)}", param="events")
        tenant = by.tenant if tenant is None else tenant
        if not tenant.strip() or len(tenant) > _TENANT_LIMIT or not tenant.isprintable():
            raise InvalidRequest(f"`tenant` must be 1 to {_TENANT_LIMIT} printable characters.", param="tenant")
        read = read_url(url)
        await self._resolve(read.host, port_of(read))
        wanted = Webhook(
            id=new_id("wh"),
            tenant=tenant,
            url=url,
            events=tuple(each for each in EVENT_TYPES if each in events),
            created_at=self._clock.wall(),
            created_by=by.key_id,
        )
        webhook = await self._store.write(lambda tx: self._put(tx, wanted))
        return webhook, shown_secret(self._secret_of(webhook.id))

    async def all(self) -> list[Webhook]:
        """Every tenant's, the oldest first."""
        return await self._store.read(self._table.all)

    async def remove(self, webhook_id: str, by: Principal) -> Webhook:
        """Tell it no more, also not of what is on its way. Raises `NotFound`."""

        def work(tx: Connection) -> tuple[Webhook, list[Job]]:
            webhook = self._find(tx, webhook_id)
            self._table.delete(tx, webhook_id)
            self._audit.insert(tx, [self._event("webhook.remove", webhook, by.key_id)])
            under_way = self._job_table.in_state(tx, [JobState.QUEUED, JobState.RUNNING, JobState.PAUSED], KIND)
            return webhook, [job for job in under_way if _spec(job).webhook == webhook_id]

        webhook, under_way = await self._store.write(work)
        for job in under_way:
            try:
                await self._jobs.cancel(job.id, by, None)
            except NotPossible:
                continue  # it has just ended
        return webhook

    async def test(self, webhook_id: str, by: Principal) -> Job:
        """Send it an event about itself, once. Raises `NotFound`."""
        webhook = await self._store.read(lambda tx: self._find(tx, webhook_id))
        return await self._jobs.submit(KIND, by, _spec_for(webhook, self._new_event(TEST, webhook.id)))

    async def delivery(self, webhook_id: str, job_id: str) -> Delivery:
        """What became of it. Raises `NotFound`."""
        job = await self._jobs.get(job_id, None)
        if job.kind != KIND or _spec(job).webhook != webhook_id:
            raise NotFound(f"There is no delivery {job_id!r} of that webhook.")
        return Delivery(job, _spec(job), await self._jobs.lines(job_id, None, _LINES_SHOWN))

    def on_ended(self, tx: Connection, job: Job) -> None:
        """Queue what is to be told of a job's end, with that end."""
        event_type = type_of(job)
        if event_type is None:
            return
        event = self._new_event(event_type, job.id)
        for webhook in self._table.of(tx, job.tenant):
            if event_type in webhook.events:
                spec = _spec_for(webhook, event)
                self._jobs.submit_in(tx, self._jobs.draft(KIND, webhook.tenant, job.key_id, spec))

    # --- inside -------------------------------------------------------------------------------------------------------

    def _put(self, tx: Connection, wanted: Webhook) -> Webhook:
        present = self._table.of(tx, wanted.tenant)
        same = next((each for each in present if each.url == wanted.url), None)
        if same is None and len(present) >= _MOST_WEBHOOKS:
            raise InvalidRequest(f"The tenant {wanted.tenant} has {_MOST_WEBHOOKS} webhooks, and can have no more.")
        webhook = wanted if same is None else structs.replace(same, events=wanted.events)
        self._table.put(tx, webhook)
        self._audit.insert(tx, [self._event("webhook.add", webhook, wanted.created_by)])
        return webhook

    def _find(self, tx: Connection, webhook_id: str) -> Webhook:
        webhook = self._table.get(tx, webhook_id)
        if webhook is None:
            raise NotFound(f"There is no webhook {webhook_id!r}.")
        return webhook

    def _new_event(self, event_type: str, subject: str) -> Event:
        return Event(id=new_id("evt"), created_at=int(self._clock.wall()), type=event_type, data=Subject(subject))

    def _event(self, action: str, webhook: Webhook, actor: str) -> AuditEvent:
        now = self._clock.wall()
        return AuditEvent(at=now, actor=actor, tenant=webhook.tenant, action=action, target=webhook.id)


def _spec_for(webhook: Webhook, event: Event) -> bytes:
    return encode(DeliverySpec(webhook.id, webhook.url, event))


def _spec(job: Job) -> DeliverySpec:
    return decode(job.spec, type=DeliverySpec)

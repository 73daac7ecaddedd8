"""`/v1/webhooks`: which servers are told what happened here."""

from typing import Annotated, Any, Final, Literal

from msgspec import Struct
from pydantic import Field
from starlette.types import ASGIApp

from pileus.api.body import WireForm
from pileus.api.route import Call, GuardedRoute
from pileus.api.stream import JsonAnswer
from pileus.security.permission import Permission
from pileus.store.job_table import JobState
from pileus.store.webhook_table import Webhook
from pileus.webhooks.addresses import URL_LIMIT
from pileus.webhooks.events import EVENT_TYPES


class WebhookWish(WireForm):
    """A server to be told."""

    url: Annotated[str, Field(min_length=1, max_length=URL_LIMIT, description="Where events are sent, by POST.")]
    events: Annotated[list[str], Field(min_length=1)] = Field(
        default=list(EVENT_TYPES), description=f"Of {', '.join(EVENT_TYPES)}; all where it is absent."
    )
    tenant: str | None = Field(default=None, description="Of whom it is told; where absent, the caller's own tenant.")


class WebhookView(Struct, frozen=True, kw_only=True):
    """A server that is told. Times are Unix times."""

    id: str
    object: Literal["webhook"] = "webhook"
    url: str
    events: list[str]
    tenant: str
    created_at: int
    created_by: str


class NewWebhook(WebhookView, frozen=True, kw_only=True):
    """With the secret by which it knows who sends; nobody keeps it here."""

    secret: str


class WebhookList(Struct, frozen=True, kw_only=True):
    """The oldest first."""

    object: Literal["list"] = "list"
    data: list[WebhookView]


class WebhookDeleted(Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["webhook"] = "webhook"
    deleted: Literal[True] = True


class Told(Struct, frozen=True):
    """What the delivery told, mostly of a try."""

    at: float
    text: str


class DeliveryView(Struct, frozen=True, kw_only=True):
    """One event on its way to one server."""

    id: str
    object: Literal["webhook.delivery"] = "webhook.delivery"
    webhook: str
    event: str  # its id
    type: str
    state: JobState
    failures: int  # tries so far without success
    log: list[Told]


async def list_webhooks(call: Call) -> ASGIApp:
    """All webhooks of all tenants, without their secrets."""
    return JsonAnswer(WebhookList(data=[WebhookView(**_shown(each)) for each in await call.owned.webhooks.all()]))


async def add_webhook(call: Call) -> ASGIApp:
    """Tell a server of a tenant's events. The answer is the only one that has the secret; to add the same URL again
    changes its events, and shows the secret again."""
    wish = await call.read(WebhookWish)
    webhook, secret = await call.owned.webhooks.add(wish.url, call.principal, events=wish.events, tenant=wish.tenant)
    return JsonAnswer(NewWebhook(**_shown(webhook), secret=secret), None, 201)


async def remove_webhook(call: Call) -> ASGIApp:
    """Tell it no more."""
    webhook = await call.owned.webhooks.remove(call.path_params["webhook_id"], call.principal)
    return JsonAnswer(WebhookDeleted(id=webhook.id))


async def test_webhook(call: Call) -> ASGIApp:
    """Send it an event of the type `webhook.test`, once."""
    webhook_id = call.path_params["webhook_id"]
    job = await call.owned.webhooks.test(webhook_id, call.principal)
    return JsonAnswer(await _delivery(call, webhook_id, job.id), None, 202)


async def show_delivery(call: Call) -> ASGIApp:
    """How a delivery goes."""
    return JsonAnswer(await _delivery(call, call.path_params["webhook_id"], call.path_params["id"]))


async def _delivery(call: Call, webhook_id: str, job_id: str) -> DeliveryView:
    found = await call.owned.webhooks.delivery(webhook_id, job_id)
    return DeliveryView(
        id=found.job.id,
        webhook=webhook_id,
        event=found.spec.event.id,
        type=found.spec.event.type,
        state=found.job.state,
        failures=found.job.failures,
        log=[Told(line.at, line.text) for line in found.lines],
    )


def _shown(webhook: Webhook) -> dict[str, Any]:
    return {
        "id": webhook.id,
        "url": webhook.url,
        "events": list(webhook.events),
        "tenant": webhook.tenant,
        "created_at": int(webhook.created_at),
        "created_by": webhook.created_by,
    }


_PATH: Final = "/v1/webhooks"
_ONE: Final = _PATH + "/{webhook_id}"
_MANAGE: Final = Permission.WEBHOOKS_MANAGE
ROUTES = (
    GuardedRoute("GET", _PATH, list_webhooks, permission=_MANAGE, gives=WebhookList, tag="Admin"),
    GuardedRoute("POST", _PATH, add_webhook, permission=_MANAGE, takes=WebhookWish, gives=NewWebhook, tag="Admin"),
    GuardedRoute("DELETE", _ONE, remove_webhook, permission=_MANAGE, gives=WebhookDeleted, tag="Admin"),
    GuardedRoute("POST", _ONE + "/test", test_webhook, permission=_MANAGE, promises=DeliveryView, tag="Admin"),
    GuardedRoute("GET", _ONE + "/deliveries/{id}", show_delivery, permission=_MANAGE, gives=DeliveryView, tag="Admin"),
)

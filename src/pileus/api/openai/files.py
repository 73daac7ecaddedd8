"""`/v1/files`: what people store here, in OpenAI's form."""

from typing import Any, Final, Literal

from msgspec import Struct
from starlette.types import ASGIApp

from pileus.api.download import Download
from pileus.api.multipart import FormField, MultipartForm
from pileus.api.route import Call, GuardedRoute
from pileus.api.stream import JsonAnswer
from pileus.core.errors import InvalidRequest
from pileus.files.records import (
    LEAST_EXPIRY_S,
    MOST_EXPIRY_S,
    PURPOSES,
    checked_filename,
    checked_purpose,
)
from pileus.security.permission import Permission
from pileus.store.file_table import StoredFile

_MOST_LISTED: Final = 10_000
_ANCHOR: Final = "created_at"
_EXPIRES_ANCHOR: Final = "expires_after[anchor]"
_EXPIRES_SECONDS: Final = "expires_after[seconds]"


class File(Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"


class FileList(Struct, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: list[File]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FileDeleted(Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


def file_view(file: StoredFile) -> File:
    """A file as clients see it."""
    return File(
        id=file.id,
        bytes=file.bytes,
        created_at=int(file.created_at),
        expires_at=int(file.expires_at) if file.expires_at is not None else None,
        filename=file.filename,
        purpose=file.purpose,
    )


def _anchor(text: str) -> str:
    if text != _ANCHOR:
        raise InvalidRequest(f"`{_EXPIRES_ANCHOR}` should be {_ANCHOR}", param=_EXPIRES_ANCHOR)
    return text


def _seconds(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(MOST_EXPIRY_S)) else -1
    if not LEAST_EXPIRY_S <= number <= MOST_EXPIRY_S:
        bounds = f"a whole number from {LEAST_EXPIRY_S} to {MOST_EXPIRY_S}"
        raise InvalidRequest(f"`{_EXPIRES_SECONDS}` should be {bounds}", param=_EXPIRES_SECONDS)
    return number


FORM: Final = MultipartForm(
    file="file",
    fields=(
        FormField("purpose", checked_purpose, {"type": "string", "enum": PURPOSES}, is_required=True),
        FormField(_EXPIRES_ANCHOR, _anchor, {"type": "string", "enum": [_ANCHOR]}),
        FormField(_EXPIRES_SECONDS, _seconds, {"type": "integer", "minimum": LEAST_EXPIRY_S, "maximum": MOST_EXPIRY_S}),
    ),
    read_filename=checked_filename,
)


async def create_file(call: Call) -> ASGIApp:
    """Store a file. It stays until it is deleted, or expires as `expires_after` says; inputs of batches expire after 30
    days by themselves."""
    files, principal = call.owned.files, call.principal
    async with files.incoming(principal.tenant) as content:
        form = await call.read_form(FORM, files.limits.max_bytes, content.write)
        file = await files.add(
            content,
            key_id=principal.key_id,
            filename=form.filename,
            purpose=form.values["purpose"],
            expires_s=_expires_s(form.values),
        )
    return JsonAnswer(file_view(file))


def _expires_s(values: dict[str, Any]) -> int | None:
    seconds: int | None = values.get(_EXPIRES_SECONDS)
    if (_EXPIRES_ANCHOR in values) != (seconds is not None):
        missing = _EXPIRES_SECONDS if seconds is None else _EXPIRES_ANCHOR
        raise InvalidRequest(f"`{missing}` is required", param=missing)
    return seconds


async def list_files(call: Call) -> ASGIApp:
    """This tenant's files, newest first unless `order` is `asc`; `after` is the id of the last one that is known."""
    query = call.query_params
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise InvalidRequest("`order` should be asc or desc", param="order")
    found, has_more = await call.owned.files.list(
        call.principal.tenant,
        limit=call.whole_number("limit", _MOST_LISTED, 0, _MOST_LISTED),
        after=query.get("after", ""),
        newest_first=order == "desc",
        purpose=query.get("purpose", ""),
    )
    first, last = (found[0].id, found[-1].id) if found else (None, None)
    page = FileList(data=[file_view(file) for file in found], first_id=first, last_id=last, has_more=has_more)
    return JsonAnswer(page)


async def show_file(call: Call) -> ASGIApp:
    """One file, without its content."""
    return JsonAnswer(file_view(await call.owned.files.get(call.principal.tenant, call.path_params["file_id"])))


async def delete_file(call: Call) -> ASGIApp:
    """It is gone at once."""
    file_id = call.path_params["file_id"]
    await call.owned.files.delete(call.principal.tenant, file_id)
    return JsonAnswer(FileDeleted(id=file_id))


async def read_file(call: Call) -> ASGIApp:
    """The content, as it was stored; a `Range` of bytes gets that part of it."""
    files = call.owned.files
    file = await files.get(call.principal.tenant, call.path_params["file_id"])
    return Download(file, files.content, call.headers.get("range"), call.presence())


_PATH = "/v1/files"
_ONE = _PATH + "/{file_id}"
_READ: Final = Permission.FILES_READ
_WRITE: Final = Permission.FILES_WRITE
_QUERY: Final = ("after", "limit", "order", "purpose")
ROUTES = (
    GuardedRoute("POST", _PATH, create_file, permission=_WRITE, form=FORM, gives=File, tag="OpenAI"),
    GuardedRoute("GET", _PATH, list_files, permission=_READ, gives=FileList, query=_QUERY, tag="OpenAI"),
    GuardedRoute("GET", _ONE, show_file, permission=_READ, gives=File, tag="OpenAI"),
    GuardedRoute("DELETE", _ONE, delete_file, permission=_WRITE, gives=FileDeleted, tag="OpenAI"),
    GuardedRoute("GET", _ONE + "/content", read_file, permission=_READ, gives=bytes, tag="OpenAI"),
)

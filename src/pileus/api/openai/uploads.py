"""`/v1/uploads`: files that come in parts, in OpenAI's form."""

from typing import Annotated, Final, Literal

from msgspec import UNSET, Struct, UnsetType
from pydantic import AfterValidator, Field
from starlette.types import ASGIApp

from pileus.api.body import WireForm
from pileus.api.multipart import MultipartForm
from pileus.api.openai.files import File, file_view
from pileus.api.route import Call, GuardedRoute
from pileus.api.stream import JsonAnswer
from pileus.files.records import LEAST_EXPIRY_S, MOST_EXPIRY_S, MOST_PART_BYTES, MOST_PARTS, Purpose, checked_filename
from pileus.security.permission import Permission
from pileus.store.file_table import StoredFile, StoredUpload


class ExpiresAfter(WireForm):
    """When the file expires, counted from the completion of its upload."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=LEAST_EXPIRY_S, le=MOST_EXPIRY_S)]


class UploadWish(WireForm):
    """A file that is about to come. Its media type is for clients; nothing here depends on it."""

    bytes: Annotated[int, Field(ge=0)]
    filename: Annotated[str, AfterValidator(checked_filename)]
    mime_type: Annotated[str, Field(min_length=1, max_length=255)]
    purpose: Purpose
    expires_after: ExpiresAfter | None = None


class CompleteWish(WireForm):
    """The parts in their order, and what MD5 says of the whole."""

    part_ids: Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=MOST_PARTS)]
    md5: str | None = None


class Upload(Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["upload"] = "upload"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: str
    file: File | UnsetType = UNSET


class UploadPart(Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["upload.part"] = "upload.part"
    created_at: int
    upload_id: str


def _view(upload: StoredUpload, file: StoredFile | None = None) -> Upload:
    return Upload(
        id=upload.id,
        bytes=upload.bytes,
        created_at=int(upload.created_at),
        expires_at=int(upload.expires_at),
        filename=upload.filename,
        purpose=upload.purpose,
        status=upload.status,
        file=file_view(file) if file is not None else UNSET,
    )


FORM: Final = MultipartForm(file="data")


async def create_upload(call: Call) -> ASGIApp:
    """Announce a file that comes in parts, within an hour."""
    wish = await call.read(UploadWish)
    upload = await call.owned.files.uploads.create(
        call.principal.tenant,
        call.principal.key_id,
        size=wish.bytes,
        filename=wish.filename,
        purpose=wish.purpose,
        file_expires_s=wish.expires_after.seconds if wish.expires_after else None,
    )
    return JsonAnswer(_view(upload))


async def add_part(call: Call) -> ASGIApp:
    """Send a part, of up to 64 MiB; several may come at once, in any order."""
    uploads = call.owned.files.uploads
    upload = await uploads.pending(call.principal.tenant, call.path_params["upload_id"])
    async with uploads.incoming_part(upload) as content:
        await call.read_form(FORM, MOST_PART_BYTES, content.write)
        part = await uploads.add_part(upload, content)
    return JsonAnswer(UploadPart(id=part.id, created_at=int(part.created_at), upload_id=part.upload_id))


async def complete_upload(call: Call) -> ASGIApp:
    """Put the parts together in the order of `part_ids`: a file, if they are what was announced."""
    wish = await call.read(CompleteWish)
    async with call.presence():
        upload, file = await call.owned.files.uploads.complete(
            call.principal.tenant, call.path_params["upload_id"], wish.part_ids, wish.md5
        )
    return JsonAnswer(_view(upload, file))


async def cancel_upload(call: Call) -> ASGIApp:
    """Give the upload up, with all its parts."""
    return JsonAnswer(
        _view(await call.owned.files.uploads.cancel(call.principal.tenant, call.path_params["upload_id"]))
    )


_PATH = "/v1/uploads"
_ONE = _PATH + "/{upload_id}"
_WRITE: Final = Permission.FILES_WRITE
ROUTES = (
    GuardedRoute("POST", _PATH, create_upload, permission=_WRITE, takes=UploadWish, gives=Upload, tag="OpenAI"),
    GuardedRoute("POST", _ONE + "/parts", add_part, permission=_WRITE, form=FORM, gives=UploadPart, tag="OpenAI"),
    GuardedRoute(
        "POST", _ONE + "/complete", complete_upload, permission=_WRITE, takes=CompleteWish, gives=Upload, tag="OpenAI"
    ),
    GuardedRoute("POST", _ONE + "/cancel", cancel_upload, permission=_WRITE, gives=Upload, tag="OpenAI"),
)

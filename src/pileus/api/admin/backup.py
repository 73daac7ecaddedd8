"""`/admin/v1/backup`: everything that this Pileus knows, as one archive, while it goes on."""

import asyncio
import time
from contextlib import AbstractAsyncContextManager
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from pileus.api.route import Call, GuardedRoute
from pileus.core.errors import InvalidRequest
from pileus.core.records import AuditEvent
from pileus.security.permission import Permission
from pileus.store.backup import Backup

TOTAL_HEADER: Final = b"x-pileus-backup-bytes"
_NO, _YES = "false", "true"


class ArchiveStream:
    """An ASGI response: the archive, read in a thread a piece at a time, as fast as the client takes it. One that has
    its last bytes is whole; where something goes wrong before, the connection breaks."""

    def __init__(self, call: Call, making: AbstractAsyncContextManager[Backup]) -> None:
        self._call = call
        self._making = making

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._call.presence(), self._making as backup:
            headers = [
                (b"content-type", b"application/x-tar"),
                (b"content-disposition", b'attachment; filename="pileus-backup.tar"'),
                (b"cache-control", b"no-store"),
                (TOTAL_HEADER, b"%d" % backup.total),
            ]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            pieces = backup.pieces()
            while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


async def make_backup(call: Call) -> ASGIApp:
    """A tar archive of database, pepper, stored files and jobs' folders, for `pileus restore`; with `models=true` the
    models too. It is as secret as the data folder itself. `x-pileus-backup-bytes` tells about how large it will be."""
    models = call.query_params.get("models", _NO)
    if models not in (_NO, _YES):
        raise InvalidRequest("`models` should be `true` or `false`", param="models")
    who = call.principal
    await call.owned.audit.record_async(
        AuditEvent(
            at=time.time(),
            actor=who.key_id,
            tenant=who.tenant,
            action="backup.make",
            target="with models" if models == _YES else "",
            request_id=call.head.request_id,
        )
    )
    return ArchiveStream(call, call.owned.backups.make(models=models == _YES))


ROUTES = (
    GuardedRoute("GET", "/admin/v1/backup", make_backup, permission=Permission.BACKUP, query=("models",), tag="Admin"),
)

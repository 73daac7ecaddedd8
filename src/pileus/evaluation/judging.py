"""What the gate has said of a model, as it is now: read from the store, and believed only if this Pileus signed it."""

import asyncio
import hmac
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct
from sqlalchemy import Connection

from pileus.core.errors import OperatorError
from pileus.evaluation.recording import Sign, VerdictBody, subjects
from pileus.models.artefact import MANIFEST, digest_file
from pileus.store.port import Store
from pileus.store.traffic_table import Verdict, VerdictTable


class Shown(Struct, frozen=True):
    """A verdict, and whether its signature is this Pileus's own."""

    version_id: str
    genuine: bool
    signature: str  # HMAC-SHA-256 of the body, in hexadecimal digits
    verdict: VerdictBody


class Judge:
    """Verdicts by model. `folder` is of an artefact's name, and raises `OperatorError` where there is none."""

    def __init__(self, store: Store, sign: Sign, folder: Callable[[str], Path]) -> None:
        self._store = store
        self._sign = sign
        self._folder = folder
        self._table = VerdictTable()

    async def latest(self, limit: int) -> list[Shown]:
        """The latest first."""
        found = await self._store.read(lambda tx: self._table.latest(tx, limit))
        return [self._shown(verdict) for verdict in found]

    async def refusal(self, model: str) -> str:
        """Why it may not be promoted; empty where its last verdict is genuine, of what is installed now, and good."""
        try:
            digest = await asyncio.to_thread(lambda: digest_file(self._folder(model) / MANIFEST).sha256)
        except (OperatorError, OSError):
            return f"{model} is not installed as an artefact that the gate could have judged"

        def read(tx: Connection) -> list[Verdict]:
            return self._table.latest(tx, 1, subjects(tx, digest))

        found = await self._store.read(read)
        if not found:
            return f"the gate has not judged {model} as it is now"
        shown = self._shown(found[0])
        if not shown.genuine or shown.verdict.result.sha256 != digest:
            return f"the verdict on {model} was not signed by this Pileus"
        if not shown.verdict.result.passed:
            wrong = next(finding for finding in shown.verdict.result.findings if not finding.passed)
            return f"the gate refused {model} ({wrong.check}: {wrong.says})"
        return ""

    def _shown(self, verdict: Verdict) -> Shown:
        body = msgspec.json.decode(verdict.body, type=VerdictBody)
        signed = hmac.compare_digest(self._sign(verdict.body), verdict.signature)
        genuine = signed and body.id == verdict.id and body.result.passed == verdict.passed
        return Shown(verdict.version_id, genuine, verdict.signature.hex(), body)

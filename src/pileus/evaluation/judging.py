"""What the gate has said of a model, as it is now: read from the store, and believed only if this Pileus signed it."""

import asyncio
import hmac
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct
from sqlalchemy import Connection

from pileus.core.errors import OperatorError
from pileus.evaluation.policy import Claim, Given, Policy, Refusal
from pileus.evaluation.recording import Sign, VerdictBody, subjects
from pileus.models.artefact import MANIFEST, digest_file
from pileus.store.port import Store
from pileus.store.traffic_table import Verdict, VerdictTable

_MOST: Final = 200  # verdicts on one artefact that are looked at


class Shown(Struct, frozen=True):
    """A verdict, and whether its signature is this Pileus's own."""

    version_id: str
    genuine: bool
    signature: str  # HMAC-SHA-256 of the body, in hexadecimal digits
    verdict: VerdictBody


class Judge:
    """Verdicts by model. `folder` is of an artefact's name, and raises `OperatorError` where there is none."""

    def __init__(self, store: Store, sign: Sign, folder: Callable[[str], Path], policy: Policy) -> None:
        self._store = store
        self._sign = sign
        self._folder = folder
        self.policy = policy
        self._table = VerdictTable()

    async def latest(self, limit: int) -> list[Shown]:
        """The latest first."""
        found = await self._store.read(lambda tx: self._table.latest(tx, limit))
        return [self._shown(verdict) for verdict in found]

    async def refusal(self, model: str, name: str, served: str) -> Refusal | None:
        """Why it may not have that public name, which the model `served` answers for now (empty: none does)."""
        claim = Claim(
            model=model,
            sha256=await asyncio.to_thread(self._digest, model),
            name=name,
            served=served,
            served_sha256=await asyncio.to_thread(self._digest, served) if served else "",
        )
        found = await self._store.read(lambda tx: self._of(tx, claim.sha256)) if claim.sha256 else []
        return self.policy.refusal(claim, [self._given(verdict, claim.sha256) for verdict in found])

    def _digest(self, model: str) -> str:
        """Of its manifest; empty where it is not installed as an artefact. Blocks."""
        try:
            return digest_file(self._folder(model) / MANIFEST).sha256
        except (OperatorError, OSError):
            return ""

    def _of(self, tx: Connection, digest: str) -> list[Verdict]:
        return self._table.latest(tx, _MOST, subjects(tx, digest))

    def _given(self, verdict: Verdict, digest: str) -> Given:
        shown = self._shown(verdict)
        result = shown.verdict.result
        return Given(result, genuine=shown.genuine and result.sha256 == digest)

    def _shown(self, verdict: Verdict) -> Shown:
        body = msgspec.json.decode(verdict.body, type=VerdictBody)
        signed = hmac.compare_digest(self._sign(verdict.body), verdict.signature)
        genuine = signed and body.id == verdict.id and body.result.passed == verdict.passed
        return Shown(verdict.version_id, genuine, verdict.signature.hex(), body)

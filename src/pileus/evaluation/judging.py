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
from pileus.evaluation.policy import Policy
from pileus.evaluation.recording import Sign, VerdictBody, subjects
from pileus.evaluation.records import GateResult
from pileus.models.artefact import MANIFEST, digest_file
from pileus.store.port import Store
from pileus.store.traffic_table import Verdict, VerdictTable

_MOST: Final = 200  # verdicts on one artefact that are looked at
_FORCE: Final = "force it (`--force`)"


class Shown(Struct, frozen=True):
    """A verdict, and whether its signature is this Pileus's own."""

    version_id: str
    genuine: bool
    signature: str  # HMAC-SHA-256 of the body, in hexadecimal digits
    verdict: VerdictBody


class Refusal(Struct, frozen=True):
    """Why a model may not have a public name, and what the operator can do about it."""

    why: str
    way: str


class Judge:
    """Verdicts by model. `folder` is of an artefact's name, and raises `OperatorError` where there is none."""

    def __init__(self, store: Store, sign: Sign, folder: Callable[[str], Path], policy: Policy) -> None:
        self._store = store
        self._sign = sign
        self._folder = folder
        self._policy = policy
        self._table = VerdictTable()

    async def latest(self, limit: int) -> list[Shown]:
        """The latest first."""
        found = await self._store.read(lambda tx: self._table.latest(tx, limit))
        return [self._shown(verdict) for verdict in found]

    async def refusal(self, model: str, name: str, served: str) -> Refusal | None:
        """Why it may not have that public name, which the model `served` answers for now (empty: none does). None where
        its last verdict beside that one is genuine, of what is installed now, good, and by margins that count."""
        mine = await asyncio.to_thread(self._digest, model)
        theirs = await asyncio.to_thread(self._digest, served) if served else ""
        needs_none = not served and not self._policy.gate.judge_first
        if not mine and not needs_none:
            return Refusal(f"{model} is not installed as an artefact that the gate could have judged", _FORCE)
        if not mine or mine == theirs:  # the very files that are served are not worse than they are
            return None
        verdicts = [self._shown(each) for each in await self._store.read(lambda tx: self._of(tx, mine))]
        judge_it = f"run `{self._policy.command(model, served if theirs else '...')}`, or {_FORCE}"
        for shown in verdicts:
            result = shown.verdict.result
            if not shown.genuine or result.sha256 != mine:
                return Refusal(f"the verdict on {model} was not signed by this Pileus", judge_it)
            if not served or self._policy.is_of_parent(result, theirs):
                return self._weighed(result, model, judge_it, is_free=needs_none)
        if needs_none:
            return None
        if served and not theirs and not self._policy.takes_any_parent:
            why = f"{name} serves {served}, which is no artefact that the gate could hold {model} against"
            return Refusal(why, _FORCE)
        if not verdicts:
            return Refusal(f"the gate has not judged {model} as it is now", judge_it)
        parent = verdicts[0].verdict.result.parent
        return Refusal(f"the gate judged {model} beside {parent}, and {name} serves {served}", judge_it)

    def _weighed(self, result: GateResult, model: str, judge_it: str, *, is_free: bool) -> Refusal | None:
        """By the verdict that decides."""
        if not result.passed:
            wrong = next(finding for finding in result.findings if not finding.passed)
            return Refusal(f"the gate refused {model} ({wrong.check}: {wrong.says})", _FORCE)
        if not is_free and (wide := self._policy.too_wide(result)):
            return Refusal(f"the gate passed {model} {wide}", judge_it)
        return None

    def _digest(self, model: str) -> str:
        """Of its manifest; empty where it is not installed as an artefact. Blocks."""
        try:
            return digest_file(self._folder(model) / MANIFEST).sha256
        except (OperatorError, OSError):
            return ""

    def _of(self, tx: Connection, digest: str) -> list[Verdict]:
        return self._table.latest(tx, _MOST, subjects(tx, digest))

    def _shown(self, verdict: Verdict) -> Shown:
        body = msgspec.json.decode(verdict.body, type=VerdictBody)
        signed = hmac.compare_digest(self._sign(verdict.body), verdict.signature)
        genuine = signed and body.id == verdict.id and body.result.passed == verdict.passed
        return Shown(verdict.version_id, genuine, verdict.signature.hex(), body)

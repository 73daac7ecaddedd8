"""Contents on their way in: counted, bounded, and gone without a trace unless a row refers to them in the end."""

from collections import Counter
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Final, Self

from sqlalchemy import Connection

from pileus.config.settings import Files as Limits
from pileus.core.errors import QuotaExceeded, TooLarge
from pileus.store.blobs import BlobInfo, Blobs
from pileus.store.file_table import Use, tenant_use
from pileus.store.port import Result, Store, Work

_RETRY_S: Final = 3600.0  # space comes back when somebody deletes something


class Quota:
    """What a tenant may have, with what is under way at this moment."""

    def __init__(self, limits: Limits) -> None:
        self._most = Use(limits.max_tenant_bytes, limits.max_tenant_files)
        self._under_way: Counter[str] = Counter()

    def take(self, tenant: str, stored: Use, more: int) -> None:
        """Raises `QuotaExceeded`. A forecast, so that nobody sends gigabytes for nothing; `check` decides."""
        self._under_way[tenant] += more
        self._refuse(stored, self._under_way[tenant], 1)

    def give_back(self, tenant: str, taken: int) -> None:
        self._under_way[tenant] -= taken
        if not self._under_way[tenant]:
            del self._under_way[tenant]

    def check(self, tx: Connection, tenant: str, more_bytes: int, more_files: int = 1) -> None:
        """Raises `QuotaExceeded`; in the transaction that adds it."""
        self._refuse(tenant_use(tx, tenant), more_bytes, more_files)

    def _refuse(self, stored: Use, more_bytes: int, more_files: int) -> None:
        if stored.bytes + more_bytes > self._most.bytes:
            bound = f"take more than {self._most.bytes} bytes together"
        elif stored.files + more_files > self._most.files:
            bound = f"be more than {self._most.files}, with parts that are not put together"
        else:
            return
        raise QuotaExceeded(f"The files of this tenant would {bound}: delete some.", retry_after_s=_RETRY_S)


class Incoming:
    """One content that comes in. To be entered; what was not `keep`t until the end of the block is dropped."""

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        key: str,
        *,
        tenant: str,
        most_bytes: int,
        quota: Quota | None,
        drop: Callable[[Iterable[str]], None],
    ) -> None:
        """Without a quota its bytes count for nothing: they were counted before."""
        self.key = key
        self.tenant = tenant
        self.bytes = 0
        self._store = store
        self._blobs = blobs
        self._most = most_bytes
        self._quota = quota
        self._stored = Use(0, 0)
        self._drop = drop
        self._is_whole = False
        self._is_kept = False

    async def __aenter__(self) -> Self:
        if self._quota is not None:
            self._stored = await self._store.read(lambda tx: tenant_use(tx, self.tenant))
        self._draft = await self._blobs.create(self.key)
        return self

    async def write(self, data: bytes | memoryview) -> None:
        """Raises `TooLarge`, `QuotaExceeded`, `Unavailable`."""
        self.bytes += len(data)
        if self._quota is not None:
            self._quota.take(self.tenant, self._stored, len(data))
        if self.bytes > self._most:
            raise TooLarge(f"the content is larger than {self._most} bytes")
        await self._draft.write(data)

    async def finish(self) -> BlobInfo:
        """The content is whole and durable. Nothing refers to it yet."""
        info = await self._draft.commit()
        self._is_whole = True
        return info

    async def keep(self, work: Work[Result]) -> Result:
        """Write the rows that refer to it. Where it stays unknown whether they are there, it stays too, until the
        sweeper has looked."""
        self._is_kept = True
        try:
            return await self._store.write(work)
        except Exception:
            self._drop([self.key])
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._quota is not None:
            self._quota.give_back(self.tenant, self.bytes)
        if not self._is_whole:
            await self._draft.abort()
        elif not self._is_kept:
            self._drop([self.key])

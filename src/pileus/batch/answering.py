"""One line: asked until there is an answer, or an error that is the line's own."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Final

from msgspec import Raw, Struct
from msgspec.json import encode

from pileus.batch.ending import LineError
from pileus.batch.endpoint import Answered, Endpoint
from pileus.batch.journal import Result
from pileus.batch.lines import decode_line
from pileus.batch.records import TokenSums
from pileus.core.errors import (
    DeadlineExceeded,
    Overloaded,
    PileusError,
    Quarantined,
    QuotaExceeded,
    RateLimited,
    Unauthenticated,
)
from pileus.core.ids import new_id
from pileus.core.records import Principal
from pileus.observability.events import get_log

log = get_log(__name__)

_SHORTEST_WAIT_S: Final = 0.1
_LONGEST_WAIT_S: Final = 30.0
_LONGEST_QUOTA_WAIT_S: Final = 5.0  # beyond it only a higher budget helps
_MOST_LOSSES: Final = 3  # of the replicas at work on a line, in as many times that it is asked


class LineResponse(Struct, frozen=True):
    """What the HTTP route would have answered."""

    status_code: int
    request_id: str
    body: Raw


class OutputLine(Struct, frozen=True):
    """One line of the output file or of the error file, as OpenAI has it."""

    id: str
    custom_id: str
    response: LineResponse | None
    error: LineError | None


class Asker:
    """Has the lines of one batch answered."""

    def __init__(
        self,
        batch_id: str,
        endpoint: Endpoint,
        principal: Principal,
        left_s: Callable[[], float],
        tell: Callable[[str], None],
    ) -> None:
        self._batch_id = batch_id
        self._endpoint = endpoint
        self._principal = principal
        self._left_s = left_s  # until the batch's time is over
        self._tell = tell  # why a line waits
        self._losses: Counter[int] = Counter()  # by place

    async def ask(self, place: int, content: bytes) -> tuple[Result, TokenSums]:
        """The result, which may be a failure, and the tokens that it took. Raises `Unauthenticated` where the key was
        closed, `QuotaExceeded` where its budget has no room for this line, and `Quarantined` where it may be another's
        fault that replicas were lost at work on this line: then it should be asked again, by itself."""
        line, request_id, sums = decode_line(content), new_id("req"), TokenSums()
        try:
            answered = await self._answer(bytes(line.body), request_id)
            usage = answered.usage
            sums = TokenSums(usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens)
            status, body = 200, answered.body
        except (Unauthenticated, QuotaExceeded):
            raise
        except Exception as error:  # a line's edge, as `api.edge` is a request's: logged, counted as failed, answered
            if isinstance(error, Quarantined) and self._may_be_innocent(place):
                self._tell(f"line {place + 1} is to be asked again, by itself: {error.message}")
                raise
            if not isinstance(error, PileusError):
                log.exception("batch.line_failed", batch=self._batch_id, line=place, request_id=request_id)
            status, body = self._endpoint.refusal(error)
        response = LineResponse(status, request_id, Raw(body))
        output = OutputLine(_line_id(self._batch_id, place), line.custom_id, response, None)
        return Result(place, status == 200, encode(output) + b"\n"), sums

    def _may_be_innocent(self, place: int) -> bool:
        """Whether it was not lost so often, and mostly alone, that it must be the line itself."""
        self._losses[place] += 1
        return self._losses[place] < _MOST_LOSSES

    async def _answer(self, body: bytes, request_id: str) -> Answered:
        """Wait and ask again while the service, and not the line, is why there is none."""
        while True:
            try:
                return await self._endpoint.answer(body, self._principal, request_id, self._left_s())
            except (Overloaded, RateLimited) as error:
                reason, wait_s = error.message, error.retry_after_s
            except DeadlineExceeded as error:
                reason, wait_s = error.message, _LONGEST_WAIT_S  # its time is over, and somebody is about to say so
            except QuotaExceeded as error:
                reason, wait_s = error.message, error.retry_after_s
                if wait_s > _LONGEST_QUOTA_WAIT_S:
                    raise
            self._tell(reason)
            await asyncio.sleep(min(max(wait_s, _SHORTEST_WAIT_S), _LONGEST_WAIT_S))


def unfinished(batch_id: str, place: int, content: bytes, error: LineError) -> bytes:
    """The error file's line for one that did not run."""
    return encode(OutputLine(_line_id(batch_id, place), decode_line(content).custom_id, None, error)) + b"\n"


def _line_id(batch_id: str, place: int) -> str:
    """The same whenever the line is run."""
    return f"batch_req_{batch_id.partition('_')[2]}_{place + 1}"

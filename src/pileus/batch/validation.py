"""The whole input is checked before anything of it runs. Of a line is kept where it stands, and a few hashes."""

from hashlib import blake2b
from typing import Final

from pileus.batch.endpoint import Endpoint
from pileus.batch.lines import BadLine, check_line
from pileus.batch.order import prefix_key
from pileus.batch.plan import Plan
from pileus.batch.records import LineProblem
from pileus.core.errors import CallerError, ModelNotFound
from pileus.files.lines import Line, LineSplitter

MOST_PROBLEMS: Final = 1000  # that are told
MOST_TOLD: Final = 200_000  # characters, over all of them: they go into one checkpoint, and into one answer


class Validation:
    """Takes the input piece by piece; then there are problems, or there is a plan."""

    def __init__(
        self,
        endpoint: Endpoint,
        path: str,
        *,
        max_lines: int,
        max_bytes: int,
        max_line_bytes: int,
        reorder: bool = True,
        tenant: str = "",
    ) -> None:
        self.problems: list[LineProblem] = []
        self.lines = 0
        self.given_up = False  # what else is wrong does not matter any more
        self._endpoint = endpoint
        self._path = path
        self._max_lines = max_lines
        self._max_bytes = max_bytes
        self._max_line_bytes = max_line_bytes
        self._reorder = reorder
        self._tenant = tenant
        self._bytes = 0
        self._told = 0  # characters
        self._splitter = LineSplitter(max_line_bytes)
        self._plan = Plan([])
        self._keys: list[bytes] = []
        self._known: dict[bytes, int] = {}  # line numbers by the custom_id's hash

    def feed(self, piece: bytes) -> None:
        """The next of the file's bytes; no-op once it is given up."""
        if self.given_up:
            return
        self._bytes += len(piece)
        if self._bytes > self._max_bytes:
            self._give_up(LineProblem("file_too_large", f"The input file has more than {self._max_bytes} bytes."))
            return
        for line in self._splitter.feed(piece):
            self._take(line)
            if self.given_up:
                return

    def finish(self) -> Plan | None:
        """The plan, where nothing is wrong."""
        if not self.given_up:
            for line in self._splitter.finish():
                self._take(line)
        if not self.lines and not self.problems:
            self.problems.append(LineProblem("empty_batch", "The input file has no lines."))
        if self.problems:
            return None
        self._plan.sort(self._keys)
        return self._plan

    def _give_up(self, problem: LineProblem) -> None:
        self.problems.append(problem)
        self.given_up = True

    def _take(self, line: Line) -> None:
        self.lines += 1
        if self.lines > self._max_lines:
            words = f"The input file has more than {self._max_lines} lines."
            self._give_up(LineProblem("too_many_tasks", words, line.number))
            return
        try:
            self._check(line)
        except BadLine as error:
            problem = error.at(line.number)
            self.problems.append(problem)
            self._told += len(problem.message) + len(problem.param or "")
            self.given_up = len(self.problems) >= MOST_PROBLEMS or self._told >= MOST_TOLD

    def _check(self, line: Line) -> None:
        """Raises `BadLine`."""
        if line.content is None:
            words = f"This line has {line.length} bytes; it should have at most {self._max_line_bytes}."
            raise BadLine("invalid_request", words)
        request = check_line(line.content, self._path)
        self._check_new(request.custom_id, line.number)
        try:
            asked = self._endpoint.check(bytes(request.body), self._tenant)
        except CallerError as error:
            code = "model_not_found" if isinstance(error, ModelNotFound) else "invalid_request"
            raise BadLine(code, error.message, f"body.{error.param}" if error.param else "body") from None
        self._plan.add(asked.deployment, line.offset, line.length)
        self._keys.append(prefix_key(asked.text) if self._reorder else b"")

    def _check_new(self, custom_id: str, number: int) -> None:
        mark = blake2b(custom_id.encode(), digest_size=16).digest()
        first = self._known.setdefault(mark, number)
        if first != number:
            words = f"This `custom_id` is that of line {first} too."
            raise BadLine("duplicate_custom_id", words, "custom_id")

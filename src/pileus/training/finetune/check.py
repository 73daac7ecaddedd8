"""A file of examples is checked as a whole before anything runs. It streams: of an example is kept a hash."""

from collections import Counter
from hashlib import blake2b
from typing import Final, Literal, Protocol

from msgspec import Struct

from pileus.core.errors import InvalidRequest
from pileus.data.personal import without_personal
from pileus.files.lines import Line, LineSplitter
from pileus.training.finetune.examples import MOST_LINE_BYTES, BadExample, Example, read_line, texts
from pileus.training.finetune.records import Method

FEWEST_EXAMPLES: Final = 10  # to learn from
MOST_TOLD: Final = 100  # errors, and as many warnings; all are counted

_PERSONAL: Final = {
    "EMAIL": "e-mail address",
    "PHONE": "phone number",
    "CARD": "card number",
    "IBAN": "bank account",
    "IP": "network address",
    "ID_NUMBER": "identity number",
}

Level = Literal["error", "warning"]


class Finding(Struct, frozen=True, omit_defaults=True):
    """Something about a file; `line` counts from 1, None where it is the file itself."""

    level: Level
    code: str
    message: str
    line: int | None = None
    param: str | None = None

    @property
    def text(self) -> str:
        return self.message if self.line is None else f"line {self.line}: {self.message}"


class Measured(Struct, frozen=True):
    """An example in tokens."""

    tokens: int  # that are computed
    longest: int  # of its pieces
    answers: int  # tokens to be learnt that are left after the cut
    cut: int  # tokens beyond the longest length


class Measure(Protocol):
    """Measures an example with the base's tokenizer. Raises `InvalidRequest` where its template refuses it."""

    def __call__(self, example: Example) -> Measured: ...


class Report(Struct, frozen=True, kw_only=True):
    """What the check found."""

    examples: int
    tokens: int  # 0 where nobody measured
    longest: int
    findings: list[Finding]  # by line; the first of each level
    counts: dict[str, int]  # of findings, by code; also of those that are not told

    @property
    def errors(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.level == "error"]

    @property
    def summary(self) -> str:
        """The first errors, in one sentence each."""
        errors = self.errors
        more = f" ({len(errors) - 3} more)" if len(errors) > 3 else ""
        return "; ".join(each.text for each in errors[:3]) + more


class Check:
    """Takes a file piece by piece. `fewest` examples it should have."""

    def __init__(self, method: Method, measure: Measure | None = None, fewest: int = FEWEST_EXAMPLES) -> None:
        self._method = method
        self._measure = measure
        self._fewest = fewest
        self._splitter = LineSplitter(MOST_LINE_BYTES)
        self._known: dict[bytes, int] = {}  # line numbers by the example's hash
        self._findings: list[Finding] = []
        self._told: Counter[Level] = Counter()
        self._counts: Counter[str] = Counter()
        self._lines = self._examples = self._tokens = self._longest = 0

    def feed(self, piece: bytes) -> None:
        """The next of the file's bytes."""
        for line in self._splitter.feed(piece):
            self._take(line)

    def finish(self) -> Report:
        """After the last piece."""
        for line in self._splitter.finish():
            self._take(line)
        if not self._lines:
            self._find("error", "empty_file", "The file has no lines.")
        elif self._lines < self._fewest:
            words = f"The file has {_count(self._lines, 'example')}; at least {self._fewest} are needed."
            self._find("error", "too_few_examples", words)
        return Report(
            examples=self._examples,
            tokens=self._tokens,
            longest=self._longest,
            findings=self._findings,
            counts=dict(self._counts),
        )

    def _take(self, line: Line) -> None:
        self._lines += 1
        try:
            example = read_line(line, self._method)
            if self._measure is not None:
                self._weigh(self._measure(example), line.number)
        except BadExample as bad:
            self._find("error", bad.code, bad.message, line.number, bad.param)
            return
        except InvalidRequest as refused:
            self._find("error", "template_refuses", refused.message, line.number, "messages")
            return
        self._examples += 1
        self._look_for_duplicate(example, line.number)
        self._look_for_people(example, line.number)

    def _weigh(self, measured: Measured, number: int) -> None:
        self._tokens += measured.tokens
        longest = measured.longest
        self._longest = max(self._longest, longest)
        if not measured.answers:
            words = f"Its answer begins after the first {longest} tokens, and no more are learnt from."
            raise BadExample("too_long", words)
        if measured.cut:
            words = f"It has {longest + measured.cut} tokens: what is beyond {longest} is cut off."
            self._find("warning", "too_long", words, number)

    def _look_for_duplicate(self, example: Example, number: int) -> None:
        mark = blake2b(repr(example).encode(errors="surrogatepass"), digest_size=16).digest()
        first = self._known.setdefault(mark, number)
        if first != number:
            self._find("warning", "duplicate", f"This is the example of line {first} once more.", number)

    def _look_for_people(self, example: Example, number: int) -> None:
        kinds = {kind for text in texts(example) for kind in without_personal(text)[1]}
        if kinds:
            names = sorted(_PERSONAL.get(kind, kind) for kind in kinds)
            words = f"It seems to hold personal data: {', '.join(names)}. The model may learn it by heart."
            self._find("warning", "personal_data", words, number)

    def _find(self, level: Level, code: str, message: str, line: int | None = None, param: str | None = None) -> None:
        self._counts[code] += 1
        if self._told[level] < MOST_TOLD:
            self._told[level] += 1
            self._findings.append(Finding(level, code, message, line, param))


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" + ("" if number == 1 else "s")

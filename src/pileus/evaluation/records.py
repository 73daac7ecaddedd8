"""What is asked of an evaluation or a gate, and what it finds."""

from math import isfinite

from msgspec import Struct

from pileus.evaluation.statistics import Interval
from pileus.evaluation.tasks import TaskSpec

MOST_PARALLEL = 64


class WindowSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long texts are cut for perplexity: windows of `length` tokens, of which the last `stride` count."""

    length: int = 512
    stride: int = 256
    most_tokens: int = 20_000  # of a text; what follows is left out

    def __post_init__(self) -> None:
        if not 1 <= self.stride < self.length:
            raise ValueError("`stride` should be at least 1 and less than `length`")
        if self.most_tokens < 2:
            raise ValueError("`most_tokens` should be at least 2")


class EvaluationSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A job of the kind `evaluate`."""

    model: str  # a deployment's name, or one that leads to it; a model's, where only perplexity is wanted
    against: str = ""  # another, which answers the same
    tasks: tuple[TaskSpec, ...] = ()
    texts: tuple[str, ...] = ()  # files for perplexity, on the server's machine
    windows: WindowSpec = WindowSpec()
    parallel: int = 8  # questions at the same time
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.tasks or self.texts):
            raise ValueError("there is nothing to evaluate: name `tasks` or `texts`")
        _check_parallel(self.parallel)


class Margins(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """By how much a candidate may be worse than its parent, with 95% confidence."""

    perplexity: float = 0.05  # as a share of the parent's
    score: float = 0.02  # of a task's score from 0 to 1 (BLEU and chrF: of 100)

    def __post_init__(self) -> None:
        if not (0 <= self.perplexity < 10 and 0 <= self.score < 1):
            raise ValueError("margins should be shares, not negative")


class GateSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A job of the kind `gate`. Models are names of artefacts; a task also needs who serves each of the two."""

    candidate: str
    parent: str
    texts: tuple[str, ...] = ()  # files for perplexity; empty is the text that Pileus brings
    windows: WindowSpec = WindowSpec()
    margins: Margins = Margins()
    new_tokenizer: bool = False  # it is declared to be another than the parent's
    tasks: tuple[TaskSpec, ...] = ()
    serves_candidate: str = ""  # deployments
    serves_parent: str = ""
    parallel: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if self.candidate == self.parent:
            raise ValueError("`candidate` and `parent` are the same")
        if self.tasks and not (self.serves_candidate and self.serves_parent):
            raise ValueError("`tasks` need `serves_candidate` and `serves_parent`: deployments that answer them")
        _check_parallel(self.parallel)


class Scored(Struct, frozen=True, kw_only=True):
    """A model's score in one task, by one metric; from 0 to 1, or to 100 for BLEU and chrF."""

    task: str
    metric: str
    items: int
    failed: int  # of them, without an answer
    score: Interval


class Pace(Struct, frozen=True, kw_only=True):
    """How fast a task's answers came, in the batch lane, with as many at the same time as were asked for."""

    task: str
    ttft_p50_s: float | None
    ttft_p95_s: float | None
    total_p50_s: float
    total_p95_s: float
    completion_tokens: int
    tokens_per_s: float  # of all answers together


class Foreseen(Struct, frozen=True, kw_only=True):
    """A model's perplexity on a text."""

    text: str
    tokens: int
    perplexity: Interval
    bits_per_byte: float


class Evaluated(Struct, frozen=True, kw_only=True):
    """All figures of one model."""

    model: str
    artefact: str
    sha256: str  # of the artefact's manifest
    scores: tuple[Scored, ...] = ()
    paces: tuple[Pace, ...] = ()
    perplexities: tuple[Foreseen, ...] = ()


class Compared(Struct, frozen=True, kw_only=True):
    """Two models on the same items: the first's score less the second's."""

    task: str
    metric: str
    difference: Interval
    permutation_p: float
    mcnemar_p: float | None = None  # of a metric that says right or wrong


class EvaluationResult(Struct, frozen=True, kw_only=True):
    """What a job of the kind `evaluate` gives."""

    of: Evaluated
    against: Evaluated | None = None
    compared: tuple[Compared, ...] = ()


class Finding(Struct, frozen=True, kw_only=True):
    """One check of the gate: what was looked at, what came out, and the figures that say so."""

    check: str  # manifest, weights, tokenizer, perplexity, task; of a fine-tuning also engine, loss
    passed: bool
    says: str
    figures: dict[str, float] = {}


def finite(figures: dict[str, float]) -> dict[str, float]:
    """Those that are numbers: JSON has none for the others."""
    return {name: value for name, value in figures.items() if isfinite(value)}


class GateResult(Struct, frozen=True, kw_only=True):
    """What a job of the kind `gate` gives, and the end of a fine-tuning; as a verdict it is signed."""

    candidate: str
    sha256: str  # of the candidate's manifest
    parent: str
    parent_sha256: str
    margins: Margins | None  # None of a fine-tuning, whose one margin is in its finding
    passed: bool
    findings: tuple[Finding, ...]


def _check_parallel(parallel: int) -> None:
    if not 1 <= parallel <= MOST_PARALLEL:
        raise ValueError(f"`parallel` should be from 1 to {MOST_PARALLEL}")

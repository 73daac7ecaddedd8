"""What the gate looks at in what a fine-tuning made: its files; that the engine which would serve it takes it and
answers with it; and that on the job's own items it does what it was made for, at least as well as its base.

Each check stands on those before it: what has failed one is not looked at any further.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from pileus.core.errors import ModelRefused, PileusError
from pileus.core.ports import AdaptableEngine, AdapterSource
from pileus.core.records import EngineRequest, FinishReason, SamplingParams, TokenLogprobs
from pileus.evaluation.checks import manifest_finding
from pileus.evaluation.foreseeing import Loader
from pileus.evaluation.measuring import Item, Piece, TunedMeasure
from pileus.evaluation.records import Finding, finite
from pileus.evaluation.statistics import Interval, bootstrap, mean_score
from pileus.evaluation.vocabularies import tokenizer_finding
from pileus.evaluation.weights import weights_finding
from pileus.models.adapter import adapter_id, belonging_to, check_belongs
from pileus.models.artefact import Artefact, Kind, load_artefact, verify
from pileus.models.progress import Progress

_PROBES: Final = 4  # prompts that are answered
_PROMPT_TOKENS: Final = 512  # of each, the last ones
_PROBE_TOKENS: Final = 16  # of an answer
_SLOT: Final = 0  # of the only adapter
_INDIFFERENT: Final = float(np.log(2))  # the cost of a preference, for who finds both answers as likely as before

Losses = NDArray[np.float64]  # nats of each answer token


class Reader(Protocol):
    """See `engines.native.reading.Reader`."""

    @property
    def most_tokens(self) -> int: ...

    def losses(self, ids: Sequence[int], wanted: Sequence[bool], slot: int | None = None) -> Losses: ...


class Served(Struct, frozen=True):
    """A generator as it would be served, with one slot for an adapter. Its reader reads while the engine rests, with
    what was loaded last."""

    engine: AdaptableEngine
    reader: Reader


class Bench(Struct, frozen=True):
    """What models are tried on; both are of a generator's folder."""

    tokenizer: Loader
    serve: Callable[[Path], Served]


def tuned_findings(bench: Bench, wish: TunedMeasure, progress: Progress) -> Iterator[tuple[Finding, ...]]:
    """Of each candidate, all that could be looked at. Raises `OperatorError` where the base cannot be computed."""
    trial = _Trial(bench, wish, progress)
    for candidate in map(Path, wish.candidates):
        found: list[Finding] = []
        for finding in trial.findings(candidate):
            found.append(finding)
            if not finding.passed:
                break
        yield tuple(found)


class _Trial:
    """One base, which is opened once for all its adapters, and what was made of it."""

    def __init__(self, bench: Bench, wish: TunedMeasure, progress: Progress) -> None:
        self._bench = bench
        self._wish = wish
        self._progress = progress
        self._base = load_artefact(Path(wish.base))
        self._served = bench.serve(self._base.path)
        self._before: list[tuple[Losses, ...]] = []

    def findings(self, candidate: Path) -> Iterator[Finding]:
        base = self._base.path
        self._progress("verifying", 0, 0)
        try:
            made = verify(candidate)
        except PileusError as error:
            yield Finding(check="manifest", passed=False, says=error.message)
            return
        is_adapter = made.manifest.kind is Kind.ADAPTER
        yield _belonging_finding(made, self._base) if is_adapter else manifest_finding(candidate, base)
        yield weights_finding(candidate, base)
        if not is_adapter:
            yield tokenizer_finding(self._bench.tokenizer, candidate, base, declared_new=False)
        yield from self._as_served(made, is_adapter=is_adapter)

    def _as_served(self, made: Artefact, *, is_adapter: bool) -> Iterator[Finding]:
        """On the engine; then, with what that has loaded, on the items."""
        self._progress("probing", 0, 0)
        source = AdapterSource(adapter_id(made), str(made.path)) if is_adapter else None
        prompts = [prompt_of(item.good)[-_PROMPT_TOKENS:] for item in self._wish.items[:_PROBES]]
        try:
            served = self._served if is_adapter else self._bench.serve(made.path)
            yield engine_finding(served.engine, source, prompts, self._bench.tokenizer(self._base.path).stop_ids)
        except ModelRefused as error:
            yield Finding(check="engine", passed=False, says=error.message)
            return
        if self._wish.items:
            before = self._before = self._before or self._losses(self._served.reader, None)
            yield loss_finding(before, self._losses(served.reader, _SLOT if is_adapter else None), self._wish)

    def _losses(self, reader: Reader, slot: int | None) -> list[tuple[Losses, ...]]:
        """Of each item's answer, and of a preference's other one."""
        found = []
        for number, item in enumerate(self._wish.items):
            self._progress("reading", number, len(self._wish.items))
            found.append(tuple(_read(reader, piece, slot) for piece in (item.good, item.bad) if piece is not None))
        return found


def prompt_of(piece: Piece) -> tuple[int, ...]:
    """What comes before its first answer; a token at least."""
    return piece.ids[: max(piece.answers.index(True), 1)] if True in piece.answers else piece.ids


def engine_finding(
    engine: AdaptableEngine,
    source: AdapterSource | None,
    prompts: Sequence[tuple[int, ...]],
    stop_ids: tuple[int, ...],
) -> Finding:
    """The engine takes it, and answers prompts with it in tokens that have a probability. Raises `ModelRefused` for
    an adapter that it does not take."""
    if source is not None:
        engine.load_adapter(source)
    said = _answers(engine, source, prompts, stop_ids)
    wrong = next((reason for reason, _ in said if reason), "")
    spoken = sum(len(entries) for _, entries in said)
    bad = sum(not np.isfinite(entry.logprob) for _, entries in said for entry in entries)
    figures = {"prompts": float(len(prompts)), "tokens": float(spoken), "bad": float(bad)}
    if wrong or bad:
        says = wrong or f"{bad} of {spoken} tokens of its answers have no probability that is a number"
        return Finding(check="engine", passed=False, says=says, figures=figures)
    says = f"the engine answers {len(prompts)} prompts with it, in {spoken} tokens"
    return Finding(check="engine", passed=True, says=says, figures=figures)


def loss_finding(
    base: Sequence[tuple[Losses, ...]], candidate: Sequence[tuple[Losses, ...]], wish: TunedMeasure
) -> Finding:
    """Not worse: with confidence, its loss on the items is at most the margin above its base's. Of answers, that is
    nats a token; of preferences, what each costs by direct preference optimisation, which is ln 2 for the base."""
    table = np.array([_cost(item, b, c, wish.beta) for item, b, c in zip(wish.items, base, candidate, strict=True)])
    found = _interval(table[table[:, 1] > 0], wish.seed)
    passed = found.high <= wish.margin  # false for NaN too
    which = "held-out items" if wish.held_out else "items that it learnt from"
    unit = "a preference" if wish.items[0].bad is not None else "an answer's token"
    says = (
        f"its loss on {len(table)} {which} is {found.value:+.4g} nats {unit} against its base's "
        f"(95%: {found.low:+.4g} to {found.high:+.4g}); at most {wish.margin:+g} is allowed"
    )
    figures = {"difference": found.value, "low": found.low, "high": found.high, "most": wish.margin}
    return Finding(check="loss", passed=passed, says=says, figures=finite(figures | {"items": float(len(table))}))


# --- inside -----------------------------------------------------------------------------------------------------------


def _belonging_finding(made: Artefact, base: Artefact) -> Finding:
    try:
        check_belongs(made, belonging_to(base))
    except ModelRefused as error:
        return Finding(check="manifest", passed=False, says=error.message)
    says = f"{len(made.manifest.files)} files are as the manifest lists them, and belong to {base.name}"
    return Finding(check="manifest", passed=True, says=says)


def _answers(
    engine: AdaptableEngine, source: AdapterSource | None, prompts: Sequence[tuple[int, ...]], stop_ids: tuple[int, ...]
) -> list[tuple[str, list[TokenLogprobs]]]:
    """Of each prompt, why there is no answer, and its tokens' probabilities."""
    params = SamplingParams(max_tokens=_PROBE_TOKENS, seed=0, temperature=0.0, logprobs=0, stop_ids=stop_ids)
    for number, prompt in enumerate(prompts):
        engine.submit(EngineRequest(number, prompt, params, adapter=source.id if source else ""))
    said: list[list[TokenLogprobs]] = [[] for _ in prompts]
    reasons: dict[int, str] = {}
    steps = engine.events()
    while len(reasons) < len(prompts):
        step = next(steps)
        for emission in step.emissions:
            said[emission.request] += emission.logprobs or ()
        for finish in step.finishes:
            reasons[finish.request] = finish.error if finish.reason is FinishReason.ERROR else ""
    return [(reasons[number], entries) for number, entries in enumerate(said)]


def _read(reader: Reader, piece: Piece, slot: int | None) -> Losses:
    most = reader.most_tokens
    return reader.losses(piece.ids[:most], piece.answers[:most], slot)


def _cost(item: Item, base: tuple[Losses, ...], candidate: tuple[Losses, ...], beta: float) -> tuple[float, float]:
    """By how much the candidate's is more, and of how many."""
    gains = [float(b.sum() - c.sum()) for b, c in zip(base, candidate, strict=True)]
    if item.bad is None:
        return -gains[0], float(len(base[0]))
    with np.errstate(invalid="ignore"):  # NaN stays NaN
        return float(np.logaddexp(0.0, -beta * (gains[0] - gains[1]))) - _INDIFFERENT, 1.0


def _interval(table: NDArray[np.float64], seed: int) -> Interval:
    """NaN where there is nothing to be sure of."""
    if not len(table) or not np.isfinite(table).all():
        return Interval(float("nan"), float("nan"), float("nan"))
    return bootstrap(table, mean_score, seed=seed)

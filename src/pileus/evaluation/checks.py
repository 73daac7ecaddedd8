"""What the gate looks at in a candidate's files beside its parent's, in this order; each finding names what is wrong.

What a later check stands on must hold: weights that are not what the manifest says are not looked at, and a model with
NaN in it is not asked to foresee a text.
"""

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Final

from pileus.core.errors import ModelRefused, PileusError
from pileus.evaluation.foreseeing import Loader, ratio, read, read_text
from pileus.evaluation.measuring import GateMeasure
from pileus.evaluation.records import Finding, finite
from pileus.evaluation.statistics import Interval
from pileus.evaluation.vocabularies import tokenizer_finding
from pileus.evaluation.weights import weights_finding
from pileus.models.artefact import Kind, load_artefact, verify
from pileus.models.progress import Progress

PROBE: Final = files("pileus.evaluation") / "probe.txt"  # an own text, for who brings none


def findings(load: Loader, wish: GateMeasure, progress: Progress) -> Iterator[Finding]:
    """All that could be looked at."""
    candidate, parent = Path(wish.candidate), Path(wish.parent)
    progress("verifying", 0, 0)
    manifest = manifest_finding(candidate, parent)
    yield manifest
    if not manifest.passed:
        return
    progress("scanning weights", 0, 0)
    weights = weights_finding(candidate, parent)
    yield weights
    kind = load_artefact(candidate).manifest.kind
    if kind is Kind.ADAPTER:
        return
    tokenizer = tokenizer_finding(load, candidate, parent, declared_new=wish.new_tokenizer)
    yield tokenizer
    if kind is Kind.GENERATOR and weights.passed:
        yield from _perplexity_findings(load, wish, candidate, parent, progress)


def manifest_finding(candidate: Path, parent: Path) -> Finding:
    """Every file of the candidate is what its manifest says; and both are of one kind."""
    try:
        mine, other = verify(candidate).manifest, load_artefact(parent).manifest
    except PileusError as error:
        return Finding(check="manifest", passed=False, says=error.message)
    if mine.kind != other.kind:
        return Finding(check="manifest", passed=False, says=f"it is of the kind {mine.kind}, its parent {other.kind}")
    return Finding(check="manifest", passed=True, says=f"{len(mine.files)} files are as the manifest lists them")


def perplexity_finding(name: str, found: Interval, margin: float, tokens: int) -> Finding:
    """Not worse: with confidence, the ratio is at most 1 + the margin."""
    passed = found.high <= 1 + margin  # false for NaN too
    says = (
        f"perplexity on {name} ({tokens} tokens) is {found.value:.4g} times the parent's "
        f"(95%: {found.low:.4g} to {found.high:.4g}); at most {1 + margin:g} is allowed"
    )
    figures = {"ratio": found.value, "low": found.low, "high": found.high, "most": 1 + margin, "tokens": float(tokens)}
    return Finding(check="perplexity", passed=passed, says=says, figures=finite(figures))


def _perplexity_findings(
    load: Loader, wish: GateMeasure, candidate: Path, parent: Path, progress: Progress
) -> Iterator[Finding]:
    for path in map(Path, wish.texts) if wish.texts else (Path(str(PROBE)),):
        text = read_text(path)
        theirs = read(load, parent, text, wish.windows, progress)
        try:
            mine = read(load, candidate, text, wish.windows, progress)
        except ModelRefused as error:
            yield Finding(check="perplexity", passed=False, says=error.message)
            return
        yield perplexity_finding(path.name, ratio(mine, theirs, wish.seed), wish.margin, len(theirs.ids))

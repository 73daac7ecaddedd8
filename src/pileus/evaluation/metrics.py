"""What an answer is worth against its references: each metric gives sufficient statistics of an item, and the score of
their sums (see `statistics`).

Exact match and F1 follow SQuAD's official script, and CMRC's for Chinese, where each character is a token of its own.
BLEU and chrF are sacrebleu's; ROUGE is Google's `rouge-score`. These two come with the `eval` extra.
"""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from pileus.core.errors import OperatorError
from pileus.evaluation.statistics import Score, Table, mean_score

Measure = Callable[[str, Sequence[str]], tuple[float, ...]]

_ARTICLES: Final = re.compile(r"\b(a|an|the)\b")
_NUMBER: Final = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_CHINESE: Final = re.compile(r"([\u3400-\u9fff\uf900-\ufaff])")


class Metric(Struct, frozen=True):
    """One way to judge."""

    name: str
    measure: Measure  # of an answer and its references: statistics
    score: Score = mean_score
    is_binary: bool = False  # an item is right or wrong
    library: Callable[[], object] | None = None  # loads what it needs; raises `OperatorError` where that is missing

    def table(self, answers: Sequence[str], references: Sequence[Sequence[str]]) -> Table:
        rows = [self.measure(answer, expected) for answer, expected in zip(answers, references, strict=True)]
        return np.array(rows, np.float64)


def metric(name: str) -> Metric:
    """Raises `ValueError` for a name that there is not."""
    if name not in METRICS:
        raise ValueError(f"there is no metric {name!r}; there is: {', '.join(METRICS)}")
    return METRICS[name]


def demand_libraries(names: Iterable[str]) -> None:
    """Raises `OperatorError` where one of these metrics cannot be computed here."""
    for library in {found for name in names if (found := metric(name).library)}:
        library()


def normalised(text: str) -> str:
    """In lower case, without punctuation and articles, with single spaces."""
    text = unicodedata.normalize("NFKC", text).lower()
    kept = "".join(c for c in text if c not in string.punctuation and not unicodedata.category(c).startswith("P"))
    return " ".join(_ARTICLES.sub(" ", kept).split())


def words(text: str) -> list[str]:
    """Of the normalised text; each Chinese character is one."""
    return _CHINESE.sub(r" \1 ", normalised(text)).split()


def _mean_of(value: Callable[[str, str], float]) -> Measure:
    """The best over the references."""

    def measure(answer: str, references: Sequence[str]) -> tuple[float, ...]:
        return max(value(answer, reference) for reference in references), 1.0

    return measure


def _exact(answer: str, reference: str) -> float:
    return float("".join(words(answer)) == "".join(words(reference)))


def _f1(answer: str, reference: str) -> float:
    said, expected = words(answer), words(reference)
    common = sum((Counter(said) & Counter(expected)).values())
    if not common:
        return float(said == expected)
    precision, recall = common / len(said), common / len(expected)
    return 2 * precision * recall / (precision + recall)


def _label(answer: str, reference: str) -> float:
    """Whether the answer's first line, or its end after the last colon, is the label."""
    first = answer.strip().split("\n", 1)[0]
    return float(_plain(reference) in {_plain(first), _plain(first.rsplit(":", 1)[-1])})


def _plain(text: str) -> str:
    return normalised(text.replace("_", " "))


def _number(answer: str, reference: str) -> float:
    """Whether the last number of the answer is the reference's last number."""
    said, expected = _last_number(answer), _last_number(reference)
    return float(said is not None and expected is not None and abs(said - expected) < 1e-6)


def _last_number(text: str) -> float | None:
    found = _NUMBER.findall(text)
    return float(found[-1].replace(",", "")) if found else None


def _contains(answer: str, reference: str) -> float:
    said, expected = "".join(words(answer)), "".join(words(reference))
    return float(bool(expected) and expected in said)


# --- with libraries of the `eval` extra ---------------------------------------------------------------------------


def _chrf(answer: str, references: Sequence[str]) -> tuple[float, ...]:
    return float(_sacrebleu().CHRF().sentence_score(answer, list(references)).score), 1.0


def _rouge_l(answer: str, reference: str) -> float:
    return float(_rouge_scorer().score(reference, answer)["rougeL"].fmeasure)


def _bleu(answer: str, references: Sequence[str]) -> tuple[float, ...]:
    """Matches and totals of n-grams from 1 to 4, and both lengths."""
    tokenize = "zh" if any(_CHINESE.search(reference) for reference in references) else "13a"
    found = _sacrebleu().BLEU(effective_order=True, tokenize=tokenize).sentence_score(answer, list(references))
    return (*map(float, found.counts), *map(float, found.totals), float(found.sys_len), float(found.ref_len))


def _bleu_score(sums: Table) -> NDArray[np.float64]:
    compute = _sacrebleu().BLEU.compute_bleu
    rows = [[round(value) for value in row] for row in sums]
    return np.array([compute(row[:4], row[4:8], row[8], row[9]).score for row in rows], np.float64)


@cache
def _sacrebleu() -> Any:
    try:
        import sacrebleu.metrics
    except ImportError:
        raise _missing("sacrebleu") from None
    return sacrebleu.metrics


class _Pieces:
    """Meets rouge-score's tokenizer: Chinese too."""

    def tokenize(self, text: str) -> list[str]:
        return words(text)


@cache
def _rouge_scorer() -> Any:
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError:
        raise _missing("rouge-score") from None
    return RougeScorer(["rougeL"], tokenizer=_Pieces())


def _missing(library: str) -> OperatorError:
    return OperatorError(f"this metric needs {library}, of the `eval` extra: run `make extras`")


METRICS: Final[Mapping[str, Metric]] = {
    each.name: each
    for each in (
        Metric("exact_match", _mean_of(_exact), is_binary=True),
        Metric("f1", _mean_of(_f1)),
        Metric("accuracy", _mean_of(_label), is_binary=True),
        Metric("number", _mean_of(_number), is_binary=True),
        Metric("contains", _mean_of(_contains), is_binary=True),
        Metric("chrf", _chrf, library=_sacrebleu),
        Metric("bleu", _bleu, _bleu_score, library=_sacrebleu),
        Metric("rouge_l", _mean_of(_rouge_l), library=_rouge_scorer),
    )
}

import numpy as np
import pytest

from pileus.evaluation.metrics import METRICS, metric
from pileus.evaluation.statistics import bootstrap


def value(name: str, answer: str, *references: str) -> float:
    by = metric(name)
    return float(by.score(by.table([answer], [references]))[0])


@pytest.mark.parametrize(
    ("name", "answer", "references", "expected"),
    [
        ("exact_match", "The Eiffel Tower.", ["eiffel tower"], 1.0),
        ("exact_match", "in the Eiffel Tower", ["eiffel tower"], 0.0),
        ("exact_match", "北京。", ["上海", "北京"], 1.0),
        ("f1", "the big dog", ["a small dog"], 0.5),
        ("f1", "北京市", ["北京"], 0.8),  # character by character
        ("f1", "", [""], 1.0),
        ("f1", "cat", ["dog"], 0.0),
        ("accuracy", "Card arrival", ["card_arrival"], 1.0),
        ("accuracy", "Intent: card_arrival\nbecause...", ["card_arrival"], 1.0),
        ("accuracy", "not positive", ["positive"], 0.0),
        ("number", "so 16 - 7 = 9, times 2: $1,018.00", ["1018"], 1.0),
        ("number", "no idea", ["18"], 0.0),
        ("number", "-3.5", ["3.5"], 0.0),
        ("contains", "It is Paris, of course.", ["paris"], 1.0),
    ],
)
def test_answers_are_judged_as_people_would(name: str, answer: str, references: list[str], expected: float) -> None:
    assert value(name, answer, *references) == pytest.approx(expected)


def test_bleu_is_the_corpus_score_not_the_mean_of_sentences() -> None:
    sacrebleu = pytest.importorskip("sacrebleu", reason="the `eval` extra is not installed: `make extras`")
    answers = ["the cat sat on the mat", "a dog", "rain falls on the roof of the house"]
    references = ["the cat sat on a mat", "the dog barks", "rain falls on the roof of the old house"]
    by = metric("bleu")
    table = by.table(answers, [[each] for each in references])
    ours = by.score(table.sum(axis=0, keepdims=True))[0]
    assert ours == pytest.approx(sacrebleu.corpus_bleu(answers, [references]).score, abs=1e-6)
    found = bootstrap(table, by.score, draws=100)
    assert found.low <= found.value <= found.high


def test_chrf_is_sacrebleus() -> None:
    sacrebleu = pytest.importorskip("sacrebleu", reason="the `eval` extra is not installed: `make extras`")
    assert value("chrf", "今天天气很好", "今天天气不错") == pytest.approx(
        sacrebleu.sentence_chrf("今天天气很好", ["今天天气不错"]).score
    )


def test_rouge_reads_chinese_too() -> None:
    pytest.importorskip("rouge_score", reason="the `eval` extra is not installed: `make extras`")
    assert value("rouge_l", "今天天气很好", "今天天气不错") == pytest.approx(4 / 6)
    assert value("rouge_l", "the cat sat", "the cat sat") == pytest.approx(1.0)


def test_a_metric_that_there_is_not_is_named() -> None:
    with pytest.raises(ValueError, match="no metric 'vibes'"):
        metric("vibes")
    assert all(np.isfinite(metric(name).table(["x"], [["x"]])).all() for name in ("exact_match", "f1", *METRICS)[:2])

from pathlib import Path

import numpy as np
import pytest

from made_models import write_tiny_gguf
from pileus.models.convert.dispatch import convert
from pileus.models.perplexity import (
    EXACT,
    Foreseer,
    Windows,
    perplexity,
    perplexity_interval,
    ratio_interval,
)
from pileus.models.progress import silent

VOCABULARY = 267


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("perplexity")
    write_tiny_gguf(root / "tiny.gguf")
    made = root / "tiny"
    made.mkdir()
    convert(root / "tiny.gguf", made, silent)
    return made


def _text(tokens: int) -> np.ndarray:
    return np.random.default_rng(3).integers(3, VOCABULARY, tokens)


def test_every_token_but_the_first_counts_once() -> None:
    for tokens in (2, 10, 11, 64, 100):
        counted = [index for _, first, end in Windows(length=10, stride=4).over(tokens) for index in range(first, end)]
        assert counted == list(range(1, tokens))


def test_a_token_has_the_context_it_was_promised() -> None:
    for begin, first, end in list(Windows(length=10, stride=4).over(100))[1:]:
        assert end - begin == 10
        assert first - begin >= 6


@pytest.mark.parametrize(
    ("context", "fitting"), [(0, (10, 4)), (10, (10, 4)), (9, (9, 4)), (6, (6, 3)), (2, (2, 1)), (1, (2, 1))]
)
def test_windows_are_such_as_the_model_can_read(context: int, fitting: tuple[int, int]) -> None:
    assert Windows(length=10, stride=4).within(context) == Windows(*fitting)


def test_a_stride_may_leave_no_gap() -> None:
    with pytest.raises(ValueError, match="stride"):
        Windows(length=8, stride=8)


def test_losses_in_one_window_are_those_of_the_whole_text_at_once(folder: Path) -> None:
    """Chunks change nothing: 600 tokens go through in three."""
    text = _text(600)
    foreseer = Foreseer(folder, EXACT)
    whole = foreseer.losses(text, Windows(length=600, stride=599))
    alone = np.array([foreseer.losses(text[: end + 1], Windows(length=600, stride=599))[-1] for end in (1, 256, 257)])
    np.testing.assert_allclose(whole[[0, 255, 256]], alone, atol=1e-4)
    assert len(whole) == 599


def test_a_window_forgets_what_lies_before_it(folder: Path) -> None:
    text = _text(40)
    foreseer = Foreseer(folder, EXACT)
    windows = Windows(length=16, stride=8)
    changed = np.concatenate([_text(8)[::-1], text[8:]])
    np.testing.assert_allclose(foreseer.losses(text, windows)[-8:], foreseer.losses(changed, windows)[-8:], atol=1e-6)


def test_losses_are_of_the_tokens_that_come(folder: Path) -> None:
    """Where a model's most likely token comes, the loss is less than that of any other one."""
    foreseer = Foreseer(folder, EXACT)
    text = _text(12)
    losses = [foreseer.losses([*text, token])[-1] for token in range(VOCABULARY)]
    assert np.exp(-np.array(losses)).sum() == pytest.approx(1.0, abs=1e-4)


def test_a_text_of_one_token_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="two tokens"):
        Foreseer(folder).losses([5])


def test_an_interval_holds_its_value_and_narrows_with_more_text() -> None:
    losses = np.random.default_rng(1).exponential(3.0, 40_000)
    short, long = perplexity_interval(losses[:4_000]), perplexity_interval(losses)
    assert long.low < perplexity(losses) == pytest.approx(long.value)
    assert long.value < long.high
    assert long.high - long.low < short.high - short.low


def test_a_ratio_is_paired() -> None:
    """What both find hard does not widen it."""
    parent = np.random.default_rng(1).exponential(3.0, 10_000)
    ratio = ratio_interval(parent + 0.01, parent)
    assert ratio.value == pytest.approx(np.exp(0.01))
    assert ratio.high - ratio.low < 1e-9
    with pytest.raises(ValueError, match="same tokens"):
        ratio_interval(parent[1:], parent)

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the `train` extra is not installed: `make extras`")
from pileus.training.loop import Diverged, Loop  # noqa: E402  # stands on PyTorch
from unit.training.corpus import Follower, figures_of, spec_of, train  # noqa: E402

RECIPES = [
    pytest.param("gpt", {}, id="gpt"),
    pytest.param("bert", {"dropout": 0.1}, id="bert"),
    pytest.param("classifier", {"rate": 1e-2}, id="classifier"),
    pytest.param("encoder", {}, id="encoder"),
    pytest.param("seq2seq", {"label_smoothing": 0.1, "dropout": 0.1}, id="transformer"),
    pytest.param("seq2seq", {"architecture": "lstm", "dropout": 0.1}, id="lstm"),
]


@pytest.mark.parametrize(("recipe", "changes"), RECIPES)
def test_each_recipe_learns(tmp_path: Path, recipe: str, changes: dict[str, Any]) -> None:
    follower = Follower()
    trained = train(spec_of(tmp_path, recipe, steps=25, **changes), tmp_path, follower)
    assert trained.outcome.ended
    assert follower.losses[-1] < 0.9 * follower.losses[0]
    assert trained.outcome.validation_loss is not None
    assert {"tokens_per_s", "mfu", "rate"} <= follower.figures[25].keys()


@pytest.mark.parametrize(("recipe", "changes"), RECIPES)
def test_a_run_that_was_stopped_goes_on_as_one_that_was_not(
    tmp_path: Path, recipe: str, changes: dict[str, Any]
) -> None:
    spec = spec_of(tmp_path, recipe, steps=7, ema=0.9, evaluate_every=3, accumulate=1, **changes)
    whole = train(spec, tmp_path / "whole")
    stopped = train(spec, tmp_path / "cut", Follower(stop_after=4))
    assert (stopped.outcome.step, stopped.outcome.ended, stopped.recipe) == (4, False, None)
    resumed = train(spec, tmp_path / "cut")
    assert figures_of(resumed.outcome) == figures_of(whole.outcome)
    assert whole.recipe is not None
    assert resumed.recipe is not None
    weights = resumed.recipe.model.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in whole.recipe.model.state_dict().items())


def test_parts_of_a_batch_add_up_to_it(tmp_path: Path) -> None:
    whole, parts = Follower(), Follower()
    train(spec_of(tmp_path, "bert", steps=4), tmp_path / "whole", whole)
    train(spec_of(tmp_path, "bert", steps=4, accumulate=4), tmp_path / "parts", parts)
    assert parts.losses == pytest.approx(whole.losses, abs=1e-5)


def test_a_run_stops_early_once_the_validation_loss_does_not_fall(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, "classifier", steps=200, rate=1e-2, evaluate_every=1, patience=3, schedule="constant")
    follower = Follower()
    trained = train(spec, tmp_path, follower)
    assert trained.outcome.ended
    assert trained.outcome.step < 200
    assert trained.outcome.step == trained.outcome.best_step + 3
    best = min(figures["validation_loss"] for figures in follower.figures.values())
    assert trained.outcome.validation_loss == best


def test_what_is_kept_is_the_best_and_not_the_last(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, "classifier", steps=30, rate=0.3, evaluate_every=1, schedule="constant", warmup=0.0)
    trained = train(spec, tmp_path, Follower())
    assert trained.recipe is not None
    assert trained.recipe.validation is not None
    assert trained.outcome.best_step < 30
    loop = Loop(trained.recipe.model, trained.recipe, spec, tmp_path / "other")
    assert loop.evaluate() == pytest.approx(trained.outcome.validation_loss, abs=1e-6)


def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, "gpt", steps=50, rate=1e30, warmup=0.0, clip=0.0)
    with pytest.raises(Diverged, match="try a lower `rate`"):
        train(spec, tmp_path)


def test_the_running_mean_of_the_weights_is_what_is_evaluated_and_kept(tmp_path: Path) -> None:
    plain = train(spec_of(tmp_path, "gpt", steps=6), tmp_path / "plain")
    mean = train(spec_of(tmp_path, "gpt", steps=6, ema=0.95), tmp_path / "mean")
    assert mean.outcome.loss == plain.outcome.loss
    assert mean.outcome.validation_loss != plain.outcome.validation_loss


def test_half_precision_learns_nearly_the_same(tmp_path: Path) -> None:
    full, half = Follower(), Follower()
    train(spec_of(tmp_path, "gpt", steps=5, precision="float32"), tmp_path / "full", full)
    train(spec_of(tmp_path, "gpt", steps=5, precision="bfloat16"), tmp_path / "half", half)
    assert half.losses == pytest.approx(full.losses, rel=0.02)
    assert half.losses != full.losses


@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module")  # of a view that nobody writes into
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_have_the_loss_of_one(tmp_path: Path, parallel: str) -> None:
    common: dict[str, Any] = {"steps": 6, "ema": 0.9, "accumulate": 2, "evaluate_every": 2}
    one, two = Follower(), Follower()
    alone = train(spec_of(tmp_path, "bert", **common), tmp_path / "one", one)
    shared = spec_of(tmp_path, "bert", processes=2, parallel=parallel, **common)
    assert not train(shared, tmp_path / "two", Follower(stop_after=3)).outcome.ended
    together = train(shared, tmp_path / "two", two)
    assert two.losses == pytest.approx(one.losses[3:], abs=1e-4)
    assert together.outcome.validation_loss == pytest.approx(alone.outcome.validation_loss, abs=1e-4)
    assert together.recipe is not None
    assert alone.recipe is not None
    weights = together.recipe.model.state_dict()
    for name, tensor in alone.recipe.model.state_dict().items():
        assert torch.allclose(weights[name], tensor, atol=1e-3), name


def test_the_texts_of_two_processes_are_each_others_negatives(tmp_path: Path) -> None:
    one, two = Follower(), Follower()
    train(spec_of(tmp_path, "encoder", steps=4), tmp_path / "one", one)
    train(spec_of(tmp_path, "encoder", steps=4, processes=2), tmp_path / "two", two)
    assert two.losses == pytest.approx(one.losses, abs=1e-4)

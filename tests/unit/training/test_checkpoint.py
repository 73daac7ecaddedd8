import random
from pathlib import Path

import numpy
import pytest

torch = pytest.importorskip("torch", reason="the `train` extra is not installed: `make extras`")
from pileus.training import checkpoint  # noqa: E402  # stands on PyTorch


def _trained(steps: int, folder: Path, resume: bool) -> list[float]:
    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    first = 0
    if resume:
        last = checkpoint.checkpoints(folder)[-1]
        state = checkpoint.load(last)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        checkpoint.restore_random(state["random"])
        first = checkpoint.step_of(last)
    losses = []
    for step in range(first, steps):
        loss = model(torch.randn(16, 4)).square().mean() * (1 + random.random() + float(numpy.random.rand()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "random": checkpoint.random_state()}
        checkpoint.save(folder, step + 1, state)
    return losses


def test_a_run_that_goes_on_from_a_checkpoint_ends_as_one_that_was_not_cut(tmp_path: Path) -> None:
    random.seed(5)
    numpy.random.seed(5)
    whole = _trained(6, tmp_path / "whole", resume=False)
    random.seed(5)
    numpy.random.seed(5)
    _trained(3, tmp_path / "cut", resume=False)
    assert _trained(6, tmp_path / "cut", resume=True) == whole[3:]


def test_only_the_newest_checkpoints_stay_and_half_of_one_is_none(tmp_path: Path) -> None:
    for step in (9, 10, 11):
        checkpoint.save(tmp_path, step, {"step": step})
    (tmp_path / ".step-12").mkdir()
    assert [path.name for path in checkpoint.checkpoints(tmp_path)] == ["step-10", "step-11"]
    assert checkpoint.load(tmp_path / "step-11") == {"step": 11}

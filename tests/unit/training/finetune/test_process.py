"""What the process of a fine-tuning does, in this process."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the `train` extra is not installed: `make extras`")

from pileus.training.finetune.process import Run  # noqa: E402
from pileus.training.finetune.records import Trained  # noqa: E402
from tuned import HELD_OUT, OwnTask, install_tiny_base, order_for  # noqa: E402


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    install_tiny_base(folder)
    return folder


def test_an_adapter_is_learnt_and_installed(data_dir: Path, tmp_path: Path) -> None:
    own = OwnTask(data_dir, tmp_path, order_for(tmp_path, held_out=HELD_OUT))
    trained = Run(own.task).run()
    assert isinstance(trained, Trained)
    print(trained, own.lines)

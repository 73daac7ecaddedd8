"""What the process of a fine-tuning does, in this process."""

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

torch = pytest.importorskip("torch", reason="the `train` extra is not installed: `make extras`")

from pileus.config.settings import Models  # noqa: E402
from pileus.jobs.handler import YIELDED, JobFailed  # noqa: E402
from pileus.jobs.metrics import METRICS_FILE, MetricPoint, read_points  # noqa: E402
from pileus.models.artefact import ADAPTER, ADAPTER_CONFIG, ADAPTER_WEIGHTS, MODEL_BIN, Kind, verify  # noqa: E402
from pileus.models.catalogue import Catalogue  # noqa: E402
from pileus.models.convert.safetensors_file import read_safetensors  # noqa: E402
from pileus.models.store import MODELS_FOLDER  # noqa: E402
from pileus.store.job_table import Wish  # noqa: E402
from pileus.training.finetune.base import adapted, load_base, this_machine  # noqa: E402
from pileus.training.finetune.encoding import Encoded  # noqa: E402
from pileus.training.finetune.learner import SupervisedLearner  # noqa: E402
from pileus.training.finetune.losses import IGNORED, Score, collate  # noqa: E402
from pileus.training.finetune.process import Run  # noqa: E402
from pileus.training.finetune.records import Method, Order, Trained, Wishes  # noqa: E402
from tuned import BASE, EXAMPLES, HELD_OUT, PREFERENCES, OwnTask, install_tiny_base, order_for  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # PEFT calls what Transformers deprecates


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    install_tiny_base(folder)
    return folder


def trained(data_dir: Path, folder: Path, order: Order) -> Trained:
    result = Run(OwnTask(data_dir, folder, order).task).run()
    assert isinstance(result, Trained)
    return result


def points(folder: Path) -> list[MetricPoint]:
    return read_points(folder / METRICS_FILE, 1000)


def losses(folder: Path) -> list[float]:
    return [point.values["train_loss"] for point in points(folder)]


def test_an_adapter_is_learnt_and_installed(data_dir: Path, tmp_path: Path) -> None:
    result = trained(data_dir, tmp_path, order_for(tmp_path, held_out=HELD_OUT))
    assert losses(tmp_path)[-1] < 0.8 * losses(tmp_path)[0]
    assert [sorted(point.values) for point in points(tmp_path)][5] == [
        "train_loss",
        "train_mean_token_accuracy",
        "valid_loss",
        "valid_mean_token_accuracy",
    ]
    assert [kept.name for kept in result.kept] == ["tiny:mine-step-6", "tiny:mine"]
    [made] = result.made
    assert (made.model, made.kind) == ("tiny:mine", Kind.ADAPTER)
    assert [(parent.kind, parent.id) for parent in made.parents] == [("artefact", BASE), ("dataset", "file-1")]
    models = data_dir / MODELS_FOLDER / "artefacts"
    artefact, base = verify(models / "tiny:mine"), verify(models / BASE)
    belonging = json.loads((artefact.path / ADAPTER).read_bytes())
    assert belonging == {"base": BASE, "base_sha256": base.manifest.files[MODEL_BIN].sha256}
    config = json.loads((artefact.path / ADAPTER_CONFIG).read_bytes())
    assert (config["peft_type"], config["r"], config["base_model_name_or_path"]) == ("LORA", 16, BASE)
    weights = read_safetensors(artefact.path / ADAPTER_WEIGHTS)
    assert len(weights) == 2 * 7 * 2  # A and B, targets, layers
    assert weights["base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"].shape == (16, 32)


def test_peft_reads_the_adapter_and_answers_better_with_it(data_dir: Path, tmp_path: Path) -> None:
    import peft
    import transformers

    trained(data_dir, tmp_path, order_for(tmp_path, wishes=Wishes(n_epochs=8, batch_size=4)))
    models = data_dir / MODELS_FOLDER
    base = transformers.AutoModelForCausalLM.from_pretrained(models / "masters" / BASE, dtype=torch.float32)
    adapted = peft.PeftModel.from_pretrained(base, str(models / "artefacts" / "tiny:mine"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(models / "masters" / BASE)
    ids = torch.tensor([tokenizer("<|im_start|>user\nWhat is 3?<|im_end|>\n<|im_start|>assistant\n3 it is.").input_ids])
    with torch.no_grad():
        after = adapted(ids, labels=ids).loss.item()
        with adapted.disable_adapter():
            before = adapted(ids, labels=ids).loss.item()
    assert after < before


def test_only_answers_cost_anything() -> None:
    batch = collate([Encoded([5, 6, 7], [False, True, True]), Encoded([8, 9], [False, True])], 0, torch.device("cpu"))
    assert batch.labels.tolist() == [[IGNORED, 6, 7], [IGNORED, 9, IGNORED]]
    assert batch.mask.tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch.tokens == 5


def test_the_better_answers_become_likelier(data_dir: Path, tmp_path: Path) -> None:
    wishes = Wishes(n_epochs=6, batch_size=4, learning_rate_multiplier=5.0)
    trained(data_dir, tmp_path, order_for(tmp_path, lines=PREFERENCES, method=Method.DPO, wishes=wishes))
    assert losses(tmp_path)[0] == pytest.approx(0.6931, abs=1e-3)  # no adapter yet: both equally likely as before
    assert losses(tmp_path)[-1] < 0.5
    assert points(tmp_path)[-1].values["train_reward_accuracy"] == 1.0


@pytest.mark.parametrize("method", list(Method))
def test_full_fine_tuning_makes_a_model_that_can_be_served_and_learn_further(
    method: Method, data_dir: Path, tmp_path: Path
) -> None:
    lines = EXAMPLES if method is Method.SUPERVISED else PREFERENCES
    wishes = Wishes(n_epochs=2, batch_size=4, adaptation="full", learning_rate_multiplier=20.0)
    order = order_for(tmp_path, lines=lines, method=method, wishes=wishes)
    result = trained(data_dir, tmp_path, order)
    assert losses(tmp_path)[-1] < losses(tmp_path)[0]
    [made] = result.made
    assert made.kind == Kind.GENERATOR
    catalogue = Catalogue(data_dir / MODELS_FOLDER, Models())
    assert catalogue.installed("tiny:mine")
    catalogue.check_trainable("tiny:mine")
    assert (catalogue.ensure_master("tiny:mine") / "model.safetensors").is_file()


def test_training_stops_early_and_keeps_the_best(data_dir: Path, tmp_path: Path) -> None:
    wishes = Wishes(n_epochs=20, batch_size=8, learning_rate_multiplier=60.0, patience=1)
    own = OwnTask(data_dir, tmp_path, order_for(tmp_path, held_out=HELD_OUT, wishes=wishes))
    result = Run(own.task).run()
    assert isinstance(result, Trained)
    valid = [point.values["valid_loss"] for point in points(tmp_path) if "valid_loss" in point.values]
    assert len(valid) < 20
    assert valid[-1] >= min(valid)
    assert any(line.startswith("stops early") for line in own.lines)
    assert result.kept[-1].name == "tiny:mine"


def test_a_run_that_was_paused_ends_as_one_that_was_not(data_dir: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    trained(data_dir, whole, order_for(whole, held_out=HELD_OUT))
    order = order_for(parts, held_out=HELD_OUT)
    first = OwnTask(data_dir, parts, order)
    add = first.task.metrics.add

    def add_and_pause(step: int, values: dict[str, float]) -> None:
        add(step, values)
        first.task._wish = Wish.PAUSE if step == 8 else Wish.NONE

    first.task.metrics.add = add_and_pause  # type: ignore[assignment,method-assign]
    assert Run(first.task).run() is YIELDED
    assert first.checkpoints[-1].step == 8
    second = OwnTask(data_dir, parts, order)
    assert isinstance(Run(second.task).run(), Trained)
    assert second.lines[0] == "goes on after step 8 of 12"
    assert losses(parts) == losses(whole)


def test_a_loss_that_is_no_number_ends_the_job(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    score = SupervisedLearner.score

    def spoilt(learner: SupervisedLearner, places: list[int]) -> tuple[Score, int]:
        found, tokens = score(learner, places)
        return Score(found.loss * float("nan"), found.correct, found.count), tokens

    monkeypatch.setattr(SupervisedLearner, "score", spoilt)
    with pytest.raises(JobFailed, match="at step 1"):
        trained(data_dir, tmp_path, order_for(tmp_path))


def test_targets_that_the_base_lacks_fail_the_job(data_dir: Path, tmp_path: Path) -> None:
    plan = replace(order_for(tmp_path).checked.plan, target_modules=("nothing",))
    model = load_base(data_dir / MODELS_FOLDER / "masters" / BASE, this_machine(), "lora")
    with pytest.raises(JobFailed, match="nothing"):
        adapted(model, plan, "lora", 0)

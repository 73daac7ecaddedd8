"""Jobs that train, as their own process runs them, up to a model that an engine serves."""

import io
from array import array
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import Raw, Struct, convert
from msgspec.json import decode, encode

pytest.importorskip("torch", reason="the `train` extra is not installed: `make extras`")
import torch
from transformers import AutoModelForSequenceClassification

from pileus.config.settings import Settings
from pileus.core.ports import EngineSpec
from pileus.core.records import EncodeOutput, EncodeRequest, EngineRequest, SamplingParams
from pileus.engines.encoder import DRIVER as ENCODER
from pileus.engines.encoder.options import EncoderOptions
from pileus.engines.native import DRIVER
from pileus.engines.native.options import NativeOptions
from pileus.jobs.child import Brief, Told
from pileus.jobs.handler import YIELDED, JobFailed
from pileus.jobs.metrics import METRICS_FILE, read_points
from pileus.jobs.task import Task
from pileus.models.artefact import Kind, verify
from pileus.models.registry import Parent
from pileus.models.store import ModelStore
from pileus.store.job_table import Wish
from pileus.training import process, tuning  # stands on PyTorch
from pileus.training.curves import event_files
from pileus.training.recipes.bert import BERT_DROPOUT
from pileus.training.spec import RECIPES, Shape, Train, Tune
from unit.training.corpus import SMALL, spec_of, write_dataset


class Job:
    """A job's folder, and what its process says."""

    def __init__(self, folder: Path, spec: Struct) -> None:
        self.folder = folder / "jobs" / "job_abc123"
        self.folder.mkdir(parents=True)
        self.settings = Settings(data_dir=folder / "pileus")
        self._spec = spec
        self._out = io.BytesIO()

    def task(self) -> Task:
        """Of a new process."""
        brief = Brief(
            spec=Raw(encode(self._spec)),
            folder=str(self.folder),
            metrics=str(self.folder / METRICS_FILE),
            settings=Raw(self.settings.model_dump_json().encode()),
        )
        return Task(brief, self._out)

    @property
    def told(self) -> list[Told]:
        return [decode(line, type=Told) for line in self._out.getvalue().splitlines()]

    @property
    def store(self) -> ModelStore:
        return ModelStore(self.settings.data_dir / "models")


def test_a_trained_decoder_is_served_by_the_native_engine(tmp_path: Path) -> None:
    job = Job(tmp_path, spec_of(tmp_path, "gpt", steps=4, name="tiny", evaluate_every=2))
    result = process.work(job.task())
    assert isinstance(result, process.Result)
    [made] = result.made
    assert (made.model, made.kind, made.artefact) == ("tiny", "generator", "tiny-abc123")
    assert made.figures["perplexity"] > 1
    last = [said.log[1] for said in job.told if said.log][-1]
    assert last.startswith("kept as tiny-abc123: loss ")
    assert ", steps 4, tokens " in last
    points = read_points(job.folder / METRICS_FILE, 100)
    assert {"loss", "tokens_per_s", "mfu"} <= points[0].values.keys()
    assert {"mfu", "perplexity"} <= points[-1].values.keys()
    assert len(event_files(job.folder)) == 1
    artefact = job.store.artefact(made.artefact)
    assert artefact is not None
    engine = DRIVER.open(EngineSpec("tiny", artefact.path, NativeOptions(kv_bytes=1 << 22), 16))
    engine.submit(EngineRequest(1, (5, 6, 7), SamplingParams(max_tokens=3, temperature=0, seed=1)))
    tokens: list[int] = []
    for output in engine.events():
        tokens += [token for emission in output.emissions for token in emission.tokens]
        if output.finishes:
            break
    engine.close()
    assert tokens
    assert all(0 <= token < 300 for token in tokens)


def test_a_trained_classifier_says_on_the_encoder_engine_what_it_says_in_pytorch(tmp_path: Path) -> None:
    job = Job(tmp_path, spec_of(tmp_path, "classifier", steps=4))
    result = process.work(job.task())
    assert isinstance(result, process.Result)
    artefact = job.store.artefact(result.made[0].artefact)
    assert artefact is not None
    assert artefact.encoding is not None
    assert artefact.encoding.labels == ("no", "yes")
    ids = [3, 5, 9, 7, 4]
    engine = ENCODER.open(EngineSpec("tiny", artefact.path, EncoderOptions(threads=1)))
    engine.submit(EncodeRequest(1, (array("I", ids).tobytes(),), EncodeOutput(scores=True)))
    [value] = next(encoded.values for output in engine.events() for encoded in output.encoded)
    engine.close()
    model = AutoModelForSequenceClassification.from_pretrained(job.store.master(artefact.name)).eval()
    with torch.no_grad():
        expected = model(torch.tensor([ids])).logits[0].softmax(-1).tolist()
    assert np.frombuffer(value, "<f4").tolist() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("recipe", ["bert", "encoder"])
def test_a_trained_encoder_is_installed_for_its_engine(tmp_path: Path, recipe: str) -> None:
    job = Job(tmp_path, spec_of(tmp_path, recipe, steps=2))
    result = process.work(job.task())
    assert isinstance(result, process.Result)
    [made] = result.made
    artefact = verify(job.store.root / "artefacts" / made.artefact)
    assert (artefact.manifest.kind, made.kind) == (Kind.ENCODER, "encoder")
    assert artefact.encoding is not None
    assert (artefact.encoding.hidden_size, artefact.encoding.layers) == (32, 2)


@pytest.mark.parametrize("recipe", ["bert", "classifier", "encoder", "seq2seq"])
def test_what_was_trained_is_kept_as_a_hugging_face_folder(tmp_path: Path, recipe: str) -> None:
    job = Job(tmp_path, spec_of(tmp_path, recipe, steps=2))
    result = process.work(job.task())
    assert isinstance(result, process.Result)
    folder = job.store.master(result.made[0].artefact)
    assert folder is not None
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {file.name for file in folder.iterdir()}
    assert result == process.work(job.task()), "a job that is done again after it was killed gives the same"


def test_a_classifier_begins_from_a_bert_that_was_trained_here(tmp_path: Path) -> None:
    bert = Job(tmp_path / "bert", spec_of(tmp_path, "bert", steps=2))
    made = process.work(bert.task())
    assert isinstance(made, process.Result)
    master = bert.store.master(made.made[0].artefact)
    classifier = Job(tmp_path / "classifier", spec_of(tmp_path, "classifier", steps=2, base=str(master)))
    result = process.work(classifier.task())
    assert isinstance(result, process.Result)
    assert 0 <= result.figures["accuracy"] <= 1
    assert ("artefact", str(master)) in [(parent.kind, parent.id) for parent in result.made[0].parents]


@pytest.mark.parametrize(
    ("recipe", "of_base", "options"),
    [
        ("gpt", "gpt", {}),
        ("bert", "bert", {}),
        ("classifier", "bert", {}),
        ("encoder", "bert", {}),
        ("seq2seq", "seq2seq", {}),
        ("seq2seq", "seq2seq", {"architecture": "lstm"}),
    ],
    ids=["gpt", "bert", "classifier", "encoder", "transformer", "lstm"],
)
def test_a_base_keeps_its_dropout_where_none_is_given(
    tmp_path: Path, recipe: str, of_base: str, options: dict[str, str]
) -> None:
    def dropouts(folder: Path, recipe: str, **fields: Any) -> tuple[Path, set[float]]:
        job = Job(folder, spec_of(folder, recipe, steps=1, **options, **fields))
        result = process.work(job.task())
        assert isinstance(result, process.Result)
        master = job.store.master(result.made[0].artefact)
        assert master is not None
        config = decode((master / "config.json").read_bytes(), type=dict[str, Any])
        names = ("attention_dropout",) if recipe == "gpt" else ("dropout", *BERT_DROPOUT)
        return master, {config[name] for name in names if name in config}

    base, own = dropouts(tmp_path / "base", of_base, dropout=0.25)
    assert own == {0.25}
    assert dropouts(tmp_path / "next", recipe, base=str(base))[1] == {0.25}
    assert dropouts(tmp_path / "other", recipe, base=str(base), dropout=0.5)[1] == {0.5}


def test_what_learnt_from_a_prepared_dataset_came_of_that_by_its_id(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set")
    spec = Train(recipe="gpt", data=(str(tmp_path / "set"),), **SMALL | {"vocabulary": None, "steps": 1})
    result = process.work(Job(tmp_path, spec).task())
    assert isinstance(result, process.Result)
    assert result.made[0].parents == (Parent("dataset", "d", "trained on"),)


@pytest.mark.parametrize(("recipe", "kind"), [("classifier", "llama"), ("gpt", "bert")])
def test_a_base_of_another_kind_is_refused_before_anything_is_learnt(tmp_path: Path, recipe: str, kind: str) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text(f'{{"model_type": "{kind}"}}')
    with pytest.raises(JobFailed, match=f"is a model of the type '{kind}', and `{recipe}` begins from"):
        process.work(Job(tmp_path, spec_of(tmp_path, recipe, base=str(tmp_path / "base"))).task())


def test_a_paused_job_yields_at_a_checkpoint(tmp_path: Path) -> None:
    job = Job(tmp_path, spec_of(tmp_path, "gpt", steps=50))
    task = job.task()
    task._wish = Wish.PAUSE
    assert process.work(task) is YIELDED
    [reached] = [told.checkpoint for told in job.told if told.checkpoint]
    assert reached[1:3] == (1, 50)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ('{"text": "a", "label": "x"}\n{"text": "a"}\n', "line 2: `label` is missing"),
        ('{"text": "a", "label": "x"}\n\nnonsense\n', "line 3: this is no JSON"),
        ('{"text": " ", "label": "x"}\n', "line 1: `text` is empty"),
        ("[1]\n", "line 1: this is no JSON object"),
    ],
)
def test_bad_data_ends_the_job_with_the_line(tmp_path: Path, content: str, why: str) -> None:
    (tmp_path / "bad.jsonl").write_text(content)
    job = Job(tmp_path, Train(recipe="classifier", data=(str(tmp_path / "bad.jsonl"),)))
    with pytest.raises(JobFailed, match=why):
        process.work(job.task())


def test_a_search_finds_the_rate_that_learns_and_goes_on_after_a_kill(tmp_path: Path) -> None:
    train = spec_of(tmp_path, "classifier", steps=12, evaluate_every=3)
    spec = Tune(train=train, space={"rate": "1e-6,1e-2"}, trials=6, warmup_trials=2)
    first = Job(tmp_path / "whole", spec)
    whole = tuning.work(first.task())
    assert [said.log[1] for said in first.told if said.log][-1].endswith("kept as classifier-abc123")
    cut = Job(tmp_path / "cut", spec)
    for _ in range(3):
        search = tuning.Search(cut.task())
        trial = search.next_trial()
        assert trial is not None
        assert search.tries(trial)
    left = tuning.Search(cut.task()).next_trial()  # the process is killed here, with a trial begun
    assert left is not None
    again = tuning.work(cut.task())
    assert isinstance(whole, tuning.Found)
    assert isinstance(again, tuning.Found)
    assert again.trials == whole.trials
    assert len(whole.trials) == 6
    assert whole.best == {"rate": 0.01}
    assert whole.made[0].figures["validation_loss"] == pytest.approx(whole.loss)


def test_a_search_that_is_paused_goes_on_within_its_trial(tmp_path: Path) -> None:
    train = spec_of(tmp_path, "gpt", steps=8, evaluate_every=4)
    job = Job(tmp_path, Tune(train=train, space={"rate": "1e-4:1e-2:log"}, trials=1, keep_best=False))
    task = job.task()
    task._wish = Wish.PAUSE
    assert tuning.work(task) is YIELDED
    result = tuning.work(job.task())
    assert isinstance(result, tuning.Found)
    assert [trial.state for trial in result.trials] == ["complete"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"recipe": "nothing"}, "`recipe` should be one of gpt"),
        ({"batch": 9, "accumulate": 2}, "`batch` should be a multiple of"),
        ({"width": 30, "heads": 4}, "`width`"),
        ({"rate": 0.0}, "`rate`"),
        ({"width": 33, "heads": 3}, "`width` should be an even number of times heads"),
        ({"recipe": "seq2seq", "architecture": "lstm", "width": 33}, "`width` should be an even number"),
        ({"name": "../x"}, "`name`"),
        ({"layers": 0}, "`layers` should be at least 1"),
        ({"dropout": 1.0}, "`dropout`"),
        ({"base": "b", "width": 64, "heads": 2}, "`width`, `heads` should be left out: what begins from a `base`"),
        ({"base": "b", "layers": 4}, "`layers` should be left out"),  # also where that is the usual
        ({"base": "b", "vocabulary": 300}, "`vocabulary` should be left out: what begins from a `base`"),
        ({"tokenizer": "t.json", "vocabulary": 300}, "`vocabulary` should be left out: the `tokenizer` that is given"),
    ],
)
def test_a_run_that_cannot_be_is_refused_by_its_field(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Train(**{"recipe": "gpt", "data": ("a.txt",)} | changes)


@pytest.mark.parametrize("heads", [{}, {"heads": 4}])
def test_an_lstm_has_no_heads_that_would_bind_its_width(heads: dict[str, int]) -> None:
    assert Train(recipe="seq2seq", data=("a.tsv",), architecture="lstm", width=34, **heads).shape.width == 34


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"vocabulary": 0}, "`vocabulary` should be at least 1"),
        ({"layers": 0}, "`layers` should be at least 1"),
        ({"width": 0}, "`width` should be at least 1"),
        ({"heads": 0}, "`heads` should be at least 1"),
        ({"width": 255}, "`width` should be a multiple of heads"),
        ({"heads": 3}, "`width` should be a multiple of heads"),
    ],
)
def test_a_shape_that_cannot_be_is_refused_whatever_the_recipe(recipe: str, changes: dict[str, int], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        convert({"recipe": recipe, "data": ["a.txt"], **changes}, Train)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_search_among_shapes_that_cannot_be_is_refused_whatever_the_recipe(recipe: str) -> None:
    train = Train(recipe=recipe, data=("a.txt",))
    with pytest.raises(ValueError, match="`space`: `layers` should be at least 1"):
        Tune(train=train, space={"layers": "0:3"})


def test_what_is_not_said_of_a_shape_is_usual_and_a_base_goes_with_the_rest() -> None:
    assert Train(recipe="gpt", data=("a.txt",), width=64).shape == Shape(width=64, layers=4, heads=4, vocabulary=4096)
    assert Train(recipe="gpt", data=("a.txt",), base="b", context=64, dropout=0.1).base == "b"


def test_a_search_does_not_look_for_a_shape_beside_a_base() -> None:
    train = Train(recipe="gpt", data=("a.txt",), base="b")
    with pytest.raises(ValueError, match="`space`: `layers` should be left out"):
        Tune(train=train, space={"layers": "1:2"})
    assert Tune(train=train, space={"rate": "1e-4:1e-2"}).with_values({"rate": 1e-3}).rate == 1e-3


@pytest.mark.parametrize("space", [{"rate": "5:1"}, {"nothing": "1:2"}, {"recipe": "gpt,bert"}, {"rate": "-1:1"}, {}])
def test_a_search_among_what_cannot_be_is_refused(space: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="space"):
        Tune(train=Train(recipe="gpt", data=("a.txt",)), space=space)

"""One variant's files: of which weights, how many bits, for whom."""

import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from pileus.compression import source, texts
from pileus.compression.measure import Examiner
from pileus.compression.spec import CompressSpec, Distillation, Form, Learning, Pruning, Target, Variant
from pileus.jobs.task import Task
from pileus.models.artefact import MANIFEST, Artefact, Kind, Manifest, digest_file, write_record
from pileus.models.convert.dispatch import convert
from pileus.store.job_table import Wish

_WEIGHTS: Final = "weights"  # of what was pruned or distilled, as a Hugging Face folder
_GRAPH: Final = "graph"  # of these, in float16
_CHARACTERS_OF_A_TOKEN: Final = 6  # of what is written for a training; more than they have


class Files(Struct, frozen=True):
    """What was made of a variant."""

    folder: Path  # the artefact; for vLLM, what vLLM serves
    weights: Path  # the Hugging Face folder that it is made of
    how: str  # in words
    notes: str = ""


class Maker:
    """Makes variants of one parent, each in a folder of its own below the job's; what is there already is kept."""

    def __init__(
        self,
        task: Task,
        spec: CompressSpec,
        parent: Artefact,
        weights: Path,
        graph: Path,
        examiner: Examiner,
        sequences: Sequence[Sequence[int]],
    ) -> None:
        self._task = task
        self._spec = spec
        self._parent = parent
        self._weights = weights
        self._graph = graph
        self._examiner = examiner
        self._sequences = sequences

    def make(self, variant: Variant) -> Files | None:
        """None where the job was asked to rest in the middle of a training, to be gone on with."""
        folder = self._task.folder / "variants" / variant.name
        folder.mkdir(parents=True, exist_ok=True)
        if variant.to in (Form.PRUNED, Form.DISTILLED):
            weights = folder / _WEIGHTS
            if not weights.is_dir() and not self._learnt(variant, folder, weights):
                return None
        else:
            weights = self._weights
        if variant.target == Target.VLLM:
            return self._for_vllm(variant, weights)
        made, notes = folder / variant.name, ""
        if not (made / MANIFEST).exists():
            shutil.rmtree(made, ignore_errors=True)
            made.mkdir()
            self._write(variant, weights, folder, made)
        if variant.target == Target.GGUF:
            notes = "has its GGUF beside it; measured through the native engine, which spreads Q4_1 over 8 bits"
        return Files(made, weights, describe(variant), notes)

    def _write(self, variant: Variant, weights: Path, folder: Path, made: Path) -> None:
        """The artefact, with its manifest last."""
        from pileus.compression.quantise import quantise

        self._task.progress(f"making {variant.name}", 0, 0)
        form = variant.weights_form
        if variant.target == Target.GGUF:
            self._write_gguf(variant, weights, made)
        else:
            graph = self._graph
            if weights != self._weights:
                graph = source.graph_of(weights, self._parent.path, folder / _GRAPH, self._task.progress)
            if form == Form.FP16:
                shutil.copytree(graph, made, ignore=shutil.ignore_patterns(MANIFEST), dirs_exist_ok=True)
            else:
                quantise(graph, made, form, variant.weights, self._sequences)
        source.copy_text_files(self._parent.path, made)
        seal(made, variant.name, self._parent)

    def _write_gguf(self, variant: Variant, weights: Path, made: Path) -> None:
        from pileus.compression.gguf_target import GGUF_FILE, write_gguf

        file = made / GGUF_FILE
        write_gguf(weights, self._parent.path, file, variant.weights_form, symmetric=variant.weights.symmetric)
        convert(file, made, self._task.progress)

    def _for_vllm(self, variant: Variant, weights: Path) -> Files:
        from pileus.compression.vllm_target import write_vllm

        folder = Path(self._spec.output) / variant.name
        folder.mkdir(parents=True, exist_ok=True)
        write_vllm(weights, self._parent.path, folder, variant.weights_form, variant.weights, self._sequences)
        return Files(folder, weights, describe(variant))

    def _learnt(self, variant: Variant, folder: Path, weights: Path) -> bool:
        """Prune or distil; False where that stopped in the middle, to be gone on with."""
        import torch
        from transformers import AutoModelForCausalLM

        from pileus.compression.prune import prune
        from pileus.compression.student import student_of

        torch.manual_seed(self._spec.seed)
        teacher = AutoModelForCausalLM.from_pretrained(self._weights, dtype=torch.float32).eval()
        self._task.progress(f"making {variant.name}", 0, 0)
        if variant.to == Form.PRUNED:
            wish = variant.pruning.recovery
            parent = teacher
            if wish.logits + wish.hidden and variant.pruning.by in ("magnitude", "wanda"):  # which change it in place
                parent = AutoModelForCausalLM.from_pretrained(self._weights, dtype=torch.float32).eval()
            model, masks = prune(teacher, variant.pruning, self._sequences)
            layers, teacher = list(range(model.config.num_hidden_layers)), parent
        else:
            wish, masks = variant.distillation.learning, {}
            model, layers = student_of(teacher, variant.distillation, self._sequences, self._spec.seed)
        if wish.steps and not self._learn(variant.name, model, wish, folder, teacher, layers, masks):
            return False
        draft = folder / f".{_WEIGHTS}"
        shutil.rmtree(draft, ignore_errors=True)
        model.to(torch.float16).save_pretrained(draft)
        source.copy_text_files(self._parent.path, draft)
        draft.rename(weights)
        return True

    def _learn(
        self, name: str, model: Any, wish: Learning, folder: Path, teacher: Any, layers: list[int], masks: Any
    ) -> bool:
        from pileus.compression.learning import Learner

        follows = teacher if wish.logits + wish.hidden else None
        ids = self._examiner.encode(self._training_text(wish))
        learner = Learner(model, wish, ids, self._spec.seed, teacher=follows, layers=layers, masks=masks)

        def tell(step: int, loss: float) -> bool:
            self._task.progress(f"training {name}", step + 1, wish.steps)
            self._task.metrics.add(self._base(name) + step, {f"{name} loss": loss})
            return self._task.wish is Wish.PAUSE

        return learner.run(folder / "learning.safetensors", tell)

    def _base(self, name: str) -> int:
        """Steps of one job go up from variant to variant."""
        total = 0
        for variant in self._spec.variants:
            if variant.name == name:
                break
            total += max(variant.pruning.recovery.steps, variant.distillation.learning.steps)
        return total

    def _training_text(self, wish: Learning) -> str:
        if file := wish.text or self._spec.texts.file:
            return self._examiner.unseen(file)
        tokens = min(wish.steps * wish.batch * wish.length, 400_000)
        return texts.written(tokens * _CHARACTERS_OF_A_TOKEN, self._spec.seed)


def seal(folder: Path, name: str, parent: Artefact) -> None:
    """Write the manifest of an artefact that is complete."""
    files = {file.name: digest_file(file) for file in sorted(folder.iterdir()) if file.name != MANIFEST}
    manifest = Manifest(
        kind=Kind.GENERATOR,
        name=name,
        licence=parent.licence,
        source=f"compressed from {parent.name}",
        converter=_converter(),
        files=files,
    )
    write_record(folder / MANIFEST, manifest)


def describe(variant: Variant) -> str:
    """In words."""
    said = {Form.PRUNED: _pruned(variant.pruning), Form.DISTILLED: _distilled(variant.distillation)}
    words = [said[variant.to]] if variant.to in said else []
    return ", ".join([*words, _weights(variant)]) + (
        "" if variant.target == Target.NATIVE else f", for {variant.target}"
    )


def _weights(variant: Variant) -> str:
    form, wish = variant.weights_form, variant.weights
    if form == Form.FP16:
        return "float16"
    if form == Form.FULL_INT8:
        return f"weights and activations in 8 bits, smoothed ({wish.smooth:g})"
    if variant.target == Target.GGUF:
        return {Form.INT8: "Q8_0", Form.INT4: "Q4_0" if wish.symmetric else "Q4_1"}[form]
    kind = "symmetric" if wish.symmetric else "asymmetric"
    if form == Form.INT8:
        return f"weights in 8 bits, by channel, {kind}"
    group = "by channel" if wish.group == -1 else f"groups of {wish.group}"
    tuned = f", {' and '.join(wish.tuned)}" if wish.tuned else ""
    share = "" if wish.share == 1 else f" ({wish.share:.0%} of them)"
    return f"weights in 4 bits{share}, {group}, {kind}{tuned}"


def _pruned(wish: Pruning) -> str:
    what = {"magnitude": "weights, by size", "wanda": "weights, by Wanda"}.get(wish.by, wish.by)
    after = f" and {wish.recovery.steps} steps of recovery" if wish.recovery.steps else ""
    return f"without {wish.amount:.0%} of the {what}{after}"


def _distilled(wish: Distillation) -> str:
    learning = wish.learning
    layers = f"{wish.layers} layers" if wish.layers else "half of the layers"
    after = "after its teacher" if learning.logits + learning.hidden else "alone"
    begin = "the teacher's" if wish.start == "teacher" else "random"
    return f"{layers}, {wish.channels:.0%} of the channels, {begin} weights, {learning.steps} steps {after}"


def _converter() -> str:
    return ", ".join(["pileus compress", *(f"{part} {version(part)}" for part in ("nncf", "openvino"))])

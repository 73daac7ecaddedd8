"""What a fine-tuning is made of: its job's spec, checkpoint and result, as JSON in its row. Times are wall clock."""

from enum import StrEnum
from typing import Final, Literal, get_args

from msgspec import Raw, Struct
from msgspec.json import Decoder

from pileus.models.registry import Made

KIND: Final = "fine_tune"
PURPOSE: Final = "fine-tune"
RESULT_PURPOSE: Final = "fine-tune-results"
BAD_TRAINING_FILE: Final = "invalid_training_file"
BAD_VALIDATION_FILE: Final = "invalid_validation_file"
REFUSED: Final = "refused_by_gate"

TRAINING_FILE: Final = "training.jsonl"  # copies, in the job's folder
VALIDATION_FILE: Final = "validation.jsonl"

Adaptation = Literal["lora", "full"]
Target = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
TARGETS: Final[tuple[Target, ...]] = get_args(Target)  # what the service can adapt


class Method(StrEnum):
    SUPERVISED = "supervised"
    DPO = "dpo"


class Wishes(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Hyperparameters as they were asked for; None is `auto`."""

    n_epochs: int | None = None
    batch_size: int | None = None
    learning_rate_multiplier: float | None = None
    beta: float | None = None  # of DPO
    adaptation: Adaptation = "lora"
    rank: int | None = None
    alpha: float | None = None
    target_modules: tuple[Target, ...] | None = None
    max_length: int | None = None  # tokens of an example; the rest is cut off
    patience: int | None = None  # epochs without a lower validation loss after which it stops; None is never


class Plan(Struct, frozen=True, kw_only=True):
    """Hyperparameters as they are, once the data is known."""

    n_epochs: int
    batch_size: int
    learning_rate_multiplier: float
    beta: float
    rank: int
    alpha: float
    target_modules: tuple[Target, ...]
    max_length: int
    patience: int | None


class Source(Struct, frozen=True):
    """A stored file of examples."""

    file_id: str
    blob: str
    bytes: int


class FineTuneSpec(Struct, frozen=True, kw_only=True):
    """What was asked, and what it comes to."""

    model: str  # as it was asked for
    deployment: str  # that serves the base; empty where none does
    base: str  # the model's name in the catalogue
    adapter: str  # the name that it gets beside its base
    output: str  # the fine-tuned model's public name, and its artefact's
    training: Source
    validation: Source | None = None
    method: Method = Method.SUPERVISED
    wishes: Wishes = Wishes()
    seed: int = 0
    suffix: str | None = None
    metadata: dict[str, str] | None = None
    legacy: bool = False  # hyperparameters came as such, and not as those of a method


class Checked(Struct, frozen=True, kw_only=True):
    """The files are in order."""

    examples: int
    tokens: int  # of an epoch, at most `max_length` of each example
    longest: int  # tokens
    validation_examples: int
    plan: Plan


class Kept(Struct, frozen=True, kw_only=True):
    """The model as it was after a step, to be used."""

    step: int
    at: float
    name: str  # public name, and its artefact's
    metrics: dict[str, float]


class FineTuneCheckpoint(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far it is. `checked` is there once the files were found to be in order."""

    checked: Checked | None = None
    running_at: float | None = None
    step: int = 0
    steps: int = 0
    step_s: float = 0.0
    trained_tokens: int = 0
    kept: tuple[Kept, ...] = ()


class ResultFile(Struct, frozen=True):
    """The metrics, as a stored file."""

    file_id: str
    blob: str
    bytes: int
    sha256: str


class Trained(Struct, frozen=True, kw_only=True):
    """What the process that trains gives; cancelled, without a model."""

    made: tuple[Made, ...] = ()
    trained_tokens: int = 0
    kept: tuple[Kept, ...] = ()


class Ruling(Struct, frozen=True, kw_only=True):
    """What the gate says of one of the models that a run left."""

    candidate: str  # its artefact's name
    refusal: str  # why it is not to be served; empty where it is
    evidence: Raw  # the verdict, to be signed


class FineTuneResult(Struct, frozen=True, kw_only=True):
    """What came of it. Where the last model was refused, the job has failed, and this is what it left."""

    made: tuple[Made, ...]
    trained_tokens: int
    kept: tuple[Kept, ...]
    result: ResultFile | None
    rulings: tuple[Ruling, ...] = ()  # none where nothing is judged

    def refusal(self, name: str) -> str:
        """Why that model is not to be served; empty where it is."""
        return next((ruling.refusal for ruling in self.rulings if ruling.candidate == name), "")


_spec, _checkpoint, _result = Decoder(FineTuneSpec), Decoder(FineTuneCheckpoint), Decoder(FineTuneResult)


def decode_spec(body: bytes) -> FineTuneSpec:
    return _spec.decode(body)


def decode_checkpoint(body: bytes) -> FineTuneCheckpoint:
    """Of a job that has made none yet, the beginning."""
    return _checkpoint.decode(body) if body else FineTuneCheckpoint()


def decode_result(body: bytes) -> FineTuneResult | None:
    """None for a job that left none."""
    return _result.decode(body) if body else None


class Order(Struct, frozen=True, kw_only=True):
    """What the process that trains is given."""

    job_id: str
    spec: FineTuneSpec
    checked: Checked
    running_at: float
    licence: str = ""

"""What people ask for when they have a model trained: a recipe, its data, the model's shape, and the plan of the run.

Read by the server, so it stands on msgspec alone. Fields that a recipe does not have are refused.
"""

import re
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct

from pileus.config.settings import NAME_PATTERN
from pileus.training.plan import Plan, demand

RECIPES: Final = {
    "gpt": "a decoder that continues text (Llama's architecture); served by the native engine",
    "bert": "an encoder that fills in masked words, to begin classifiers and encoders from",
    "classifier": "a label for a text, from rows of text and label; on a BERT, or from scratch",
    "encoder": "vectors for texts, from pairs that belong together (contrastive, InfoNCE)",
    "seq2seq": "one text for another, from pairs: a Transformer, or an LSTM with attention",
}
_TEXTS: Final = ("gpt", "bert")  # learn from plain text, the others from rows
# Fields of some recipes only.
_OWN: Final = {
    "masked": ("bert",),
    "temperature": ("encoder",),
    "architecture": ("seq2seq",),
    "decode_most": ("seq2seq",),
    "label_smoothing": ("gpt", "bert", "classifier", "seq2seq"),
}


class Shape(Struct, frozen=True, kw_only=True):
    """Of a model from scratch. One that begins from a base has that one's."""

    vocabulary: int = 4096  # tokens of a tokenizer that is trained
    layers: int = 4
    width: int = 256  # of the model's vectors
    heads: int = 4

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            demand(getattr(self, name) >= 1, name, "at least 1")
        demand(self.width % self.heads == 0, "width", "a multiple of heads")


class Train(Plan, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One run. Paths are the server's."""

    recipe: str
    data: tuple[str, ...]  # files: text or packed shards (gpt, bert); JSONL, CSV or TSV (the others)
    validation: tuple[str, ...] = ()  # files of the same kind; without any, a part of the data is held out
    holdout: float = 0.05  # that part
    name: str = ""  # of the model that is made; the recipe's where it is empty
    base: str = ""  # a model that was kept, or a Hugging Face folder, to begin from; empty: from scratch
    tokenizer: str = ""  # a tokenizer.json or the folder of one; empty: the base's, or one trained on the data
    vocabulary: int | None = None  # this and the next three: see `shape`; none of them beside a base
    layers: int | None = None
    width: int | None = None
    heads: int | None = None  # an LSTM has none, also where a search gives it some
    context: int = 256  # tokens: a window of text, or the most of one example
    dropout: float | None = None  # None: none, or the base's
    label_smoothing: float = 0.0
    masked: float = 0.15  # bert: share of the tokens that are to be filled in
    temperature: float = 0.05  # encoder: what similarities are divided by
    architecture: Literal["transformer", "lstm"] = "transformer"  # seq2seq
    decode_most: int = 256  # seq2seq: examples of the validation set that are decoded in the end

    def __post_init__(self) -> None:
        super().__post_init__()
        demand(self.recipe in RECIPES, "recipe", f"one of {', '.join(RECIPES)}")
        demand(bool(self.data), "data", "one file or more")
        demand(not self.name or bool(re.fullmatch(NAME_PATTERN, self.name)), "name", "letters, digits and . _ - :")
        for name in ("holdout", "label_smoothing", "masked"):
            demand(0 <= getattr(self, name) < 1, name, "from 0 to less than 1")
        demand(0 <= (self.dropout or 0.0) < 1, "dropout", "from 0 to less than 1")
        demand(self.context >= 1, "context", "at least 1")
        self._check_shape()
        demand(self.temperature > 0, "temperature", "more than 0")
        demand(
            self.recipe != "encoder" or self.accumulate == 1,
            "accumulate",
            "1 for an encoder: a part has too few negatives",
        )

        for name, recipes in _OWN.items():
            is_given = getattr(self, name) != _DEFAULTS[name]
            demand(self.recipe in recipes or not is_given, name, f"left out: only {', '.join(recipes)} has it")

    def _check_shape(self) -> None:
        given = [f"`{name}`" for name in self._shape_as_given]
        if self.base and given:
            raise ValueError(f"{', '.join(given)} should be left out: what begins from a `base` has that one's")
        if self.tokenizer and self.vocabulary is not None:
            raise ValueError("`vocabulary` should be left out: the `tokenizer` that is given has its own")
        shape = self.shape  # raises where it is none
        demand(
            self.recipe != "gpt" or shape.width % (2 * shape.heads) == 0,
            "width",
            "an even number of times heads: positions turn pairs of numbers",
        )
        demand(
            self.architecture != "lstm" or shape.width % 2 == 0,
            "width",
            "an even number: an LSTM reads in two directions, half of it each",
        )

    @property
    def shape(self) -> Shape:
        """Of a model that begins from scratch. Raises `ValueError`, naming the field, where there is none such."""
        without = {"heads": 1} if self.architecture == "lstm" else {}  # so that any width will do
        return Shape(**self._shape_as_given | without)

    @property
    def _shape_as_given(self) -> dict[str, int]:
        return {name: value for name in _SHAPE if (value := getattr(self, name)) is not None}

    @property
    def model(self) -> str:
        return self.name or self.recipe

    @property
    def reads_text(self) -> bool:
        return self.recipe in _TEXTS

    @property
    def data_files(self) -> list[Path]:
        return [Path(name) for name in self.data]

    @property
    def validation_files(self) -> list[Path]:
        return [Path(name) for name in self.validation]


_SHAPE: Final = Shape.__struct_fields__
_DEFAULTS: Final = {field.name: field.default for field in msgspec.structs.fields(Train)}


class Tune(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A search for the fields of a run that give the lowest validation loss."""

    train: Train  # what stays the same
    space: dict[str, str]  # field -> `low:high`, `low:high:log`, `low:high:step`, or `this,that`
    trials: int = 20
    warmup_trials: int = 4  # that are not cut short, and whose values are drawn at random
    keep_best: bool = True  # the best trial's model becomes a version

    def __post_init__(self) -> None:
        demand(bool(self.space), "space", "one field or more")
        demand(self.trials >= 1, "trials", "at least 1")
        demand(self.warmup_trials >= 1, "warmup_trials", "at least 1")
        demand(self.train.processes == 1, "train.processes", "1 in a search")
        for field, text in self.space.items():
            for value in Range.read(field, text).ends:
                self.with_values({field: value})  # raises where the field is none, or may not be that

    def with_values(self, values: dict[str, "Value"]) -> Train:
        """The run of a trial. Raises `ValueError` where a value is not possible."""
        given = msgspec.structs.asdict(self.train)
        if unknown := sorted(values.keys() - given.keys() | values.keys() & {"recipe", "data", "validation", "name"}):
            raise ValueError(f"`space`: {unknown[0]!r} is no field that can be searched")
        try:
            return msgspec.convert(given | values, Train)
        except msgspec.ValidationError as error:
            raise ValueError(f"`space`: {error}") from None


Value = int | float | str


class Range(Struct, frozen=True):
    """Where a field's values are looked for: between two numbers, or among some values."""

    choices: tuple[Value, ...] = ()
    low: int | float = 0
    high: int | float = 0
    step: int | float | None = None
    log: bool = False

    @staticmethod
    def read(field: str, text: str) -> "Range":
        """Of `low:high`, `low:high:log`, `low:high:step` or `this,that`; whole ends give whole numbers."""
        if ":" not in text:
            return Range(choices=tuple(_value(each.strip()) for each in text.split(",")))
        low, high, *rest = (_value(part.strip()) for part in text.split(":"))
        numbers = [low, high, *(part for part in rest if part != "log")]
        if len(rest) > 1 or any(isinstance(part, str) for part in numbers) or not numbers[0] < numbers[1]:  # type: ignore[operator]
            raise ValueError(f"`space`: {field}={text} is no range such as 1e-4:1e-2:log, 1:8, 64:256:64 or 8,16,32")
        step = rest[0] if rest and rest[0] != "log" else None
        return Range(low=low, high=high, step=step, log=rest == ["log"])  # type: ignore[arg-type]

    @property
    def ends(self) -> tuple[Value, ...]:
        return self.choices or (self.low, self.high)


def _value(text: str) -> Value:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text

"""Tasks: what a model is asked, and what it should say. Files of people's own, as JSON lines, and of known formats.

A line is `{"prompt": ...}` or `{"messages": [...]}`, with `reference` or `references`. Data is read where it lies, and
never copied.
"""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from pileus.core.records import Message


class TaskSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One task, as it is asked for."""

    path: str  # on the server's machine
    format: str = ""  # of `FORMATS`; empty: by the file's name
    metrics: tuple[str, ...] = ()  # empty: the format's
    limit: int = 0  # the first so many items; 0 is all
    max_tokens: int = 0  # of an answer; 0 is the format's
    raw: bool = False  # the prompt as it stands is continued: for models without a chat template

    def __post_init__(self) -> None:
        if self.format and self.format not in FORMATS:
            raise ValueError(f"`format` should be one of {', '.join(FORMATS)}")
        if self.limit < 0 or self.max_tokens < 0:
            raise ValueError("`limit` and `max_tokens` should not be negative")


class Item(Struct, frozen=True):
    """One question."""

    messages: tuple[Message, ...]
    references: tuple[str, ...]


class Task(Struct, frozen=True):
    """What is asked."""

    name: str
    metrics: tuple[str, ...]
    max_tokens: int
    items: tuple[Item, ...]
    raw: bool = False


class Format(Struct, frozen=True):
    """How a file is read."""

    read: Callable[[Path], Iterator[Item]]
    metrics: tuple[str, ...]
    max_tokens: int
    names: tuple[str, ...] = ()  # in file names of this format


class TaskError(ValueError):
    """A task's file cannot be read; says where."""


def load_task(spec: TaskSpec) -> Task:
    """Raises `TaskError`, with the line where there is one."""
    path = Path(spec.path)
    form = FORMATS[spec.format or format_of(path)]
    try:
        items = tuple(islice(form.read(path), spec.limit or None))
    except OSError as error:
        raise TaskError(f"{path} cannot be read: {error.strerror}") from None
    except TaskError:
        raise
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise TaskError(f"{path} is not of the format {spec.format or format_of(path)}: {error!r}") from None
    if not items:
        raise TaskError(f"{path} has no items")
    return Task(path.stem, spec.metrics or form.metrics, spec.max_tokens or form.max_tokens, items, spec.raw)


def format_of(path: Path) -> str:
    """By its name; JSON lines else."""
    name = path.name.lower()
    return next((key for key, form in FORMATS.items() if any(part in name for part in form.names)), "jsonl")


# --- formats ------------------------------------------------------------------------------------------------------


class _Line(Struct, frozen=True, forbid_unknown_fields=True):
    """A line of a file of one's own."""

    prompt: str = ""
    messages: tuple[Message, ...] = ()
    reference: str | None = None
    references: tuple[str, ...] = ()
    id: str | int | None = None


def _jsonl(path: Path) -> Iterator[Item]:
    with path.open("rb") as lines:
        for number, text in enumerate(lines, 1):
            if not text.strip():
                continue
            try:
                line = msgspec.json.decode(text, type=_Line)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise TaskError(f"{path}, line {number}: {error}") from None
            references = line.references or (() if line.reference is None else (line.reference,))
            if bool(line.prompt) == bool(line.messages):
                raise TaskError(f"{path}, line {number}: it needs `prompt` or `messages`, and not both")
            if not references:
                raise TaskError(f"{path}, line {number}: it needs `reference` or `references`")
            yield Item(line.messages or _asked(line.prompt), references)


def _squad(path: Path) -> Iterator[Item]:
    """SQuAD's JSON, which XQuAD and CMRC 2018 have too; of SQuAD 2.0, the questions that have an answer."""
    for article in json.loads(path.read_bytes())["data"]:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                prompt = (
                    f"{paragraph['context']}\n\nAnswer the question with words of the text above, as few as you can.\n"
                    f"Question: {question['question']}\nAnswer:"
                )
                if answers := tuple(dict.fromkeys(answer["text"] for answer in question["answers"])):
                    yield Item(_asked(prompt), answers)


def _gsm8k(path: Path) -> Iterator[Item]:
    for line in _json_lines(path):
        prompt = f"{line['question']}\nThink step by step, and end with the answer as a number."
        yield Item(_asked(prompt), (line["answer"].rsplit("####", 1)[-1].strip(),))


def _banking77(path: Path) -> Iterator[Item]:
    with path.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    labels = ", ".join(sorted({row["category"] for row in rows}))
    for row in rows:
        prompt = f"Intents: {labels}\n\nWhich one is it? Say nothing else.\nCustomer: {row['text']}\nIntent:"
        yield Item(_asked(prompt), (row["category"],))


def _sentiment(path: Path) -> Iterator[Item]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            text, _, label = line.rstrip("\n").rpartition("\t")
            if label.strip() in ("0", "1"):
                prompt = f"Review: {text.strip()}\nIs it positive or negative? Answer with one word.\nAnswer:"
                yield Item(_asked(prompt), ("positive" if label.strip() == "1" else "negative",))


def _tatoeba(path: Path) -> Iterator[Item]:
    """English to Chinese; a sentence with several translations is one item."""
    pairs: dict[str, list[str]] = {}
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            english, chinese, *_ = line.rstrip("\n").split("\t")
            pairs.setdefault(english, []).append(chinese)
    for english, translations in pairs.items():
        prompt = f"Translate into Chinese. Give the translation only.\n{english}"
        yield Item(_asked(prompt), tuple(translations))


def _asked(prompt: str) -> tuple[Message, ...]:
    return (Message("user", prompt),)


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        yield from (json.loads(line) for line in lines if line.strip())


FORMATS: Final[Mapping[str, Format]] = {
    "squad": Format(_squad, ("exact_match", "f1"), 32, ("squad", "xquad", "cmrc")),
    "gsm8k": Format(_gsm8k, ("number",), 256, ("gsm8k",)),
    "banking77": Format(_banking77, ("accuracy",), 16, ("banking77",)),
    "sentiment": Format(_sentiment, ("accuracy",), 4, ("labelled", "sentiment")),
    "tatoeba": Format(_tatoeba, ("chrf", "bleu"), 64, ("tatoeba",)),
    "jsonl": Format(_jsonl, ("exact_match",), 64),
}

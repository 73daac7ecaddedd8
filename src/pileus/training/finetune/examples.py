"""One line of a file of examples, in OpenAI's forms: a conversation to learn from, or a preference."""

from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Final

import jiter
from msgspec import Struct

from pileus.core.errors import CallerError
from pileus.core.records import Message
from pileus.files.lines import Line, LineSplitter
from pileus.training.finetune.records import Method

MOST_LINE_BYTES: Final = 4 << 20

_ROLES: Final = ("system", "developer", "user", "assistant")
_PIECE_BYTES: Final = 1 << 20
_TOLD: Final = 64  # characters of what people wrote


class Conversation(Struct, frozen=True):
    """Messages, and for each whether it is learnt: only the assistant's are."""

    messages: tuple[Message, ...]
    learnt: tuple[bool, ...]


class Preference(Struct, frozen=True):
    """A prompt, and which of two answers is the better."""

    prompt: tuple[Message, ...]
    preferred: str
    rejected: str


Example = Conversation | Preference


class BadExample(CallerError):
    """A line that is no example."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message, param=param)
        self.code = code


def read_example(content: bytes, method: Method) -> Example:
    """Raises `BadExample`, which names the field."""
    try:
        data = jiter.from_json(content, allow_inf_nan=False, catch_duplicate_keys=True, cache_mode="keys")
    except ValueError as error:
        where = str(error).replace("at line 1 column", "at column")
        raise BadExample("invalid_json", f"This line is not valid JSON: {where}") from None
    if not isinstance(data, dict):
        raise BadExample("invalid_json", "This line is not a JSON object.")
    return _conversation(data) if method is Method.SUPERVISED else _preference(data)


def read_examples(path: Path, method: Method) -> Iterator[Example]:
    """Of a whole file. Raises `BadExample`."""
    splitter = LineSplitter(MOST_LINE_BYTES)
    with path.open("rb") as file:
        pieces = iter(partial(file.read, _PIECE_BYTES), b"")
        for line in chain(chain.from_iterable(map(splitter.feed, pieces)), splitter.finish()):
            yield read_line(line, method)


def read_line(line: Line, method: Method) -> Example:
    """Raises `BadExample`."""
    if line.content is None:
        words = f"This line has {line.length} bytes; at most {MOST_LINE_BYTES} are allowed."
        raise BadExample("line_too_long", words)
    return read_example(line.content, method)


def texts(example: Example) -> list[str]:
    """All that people wrote in it."""
    if isinstance(example, Conversation):
        return [message.content for message in example.messages]
    return [*(message.content for message in example.prompt), example.preferred, example.rejected]


def _conversation(data: dict[str, Any]) -> Conversation:
    _only(data, ("messages",), "")
    messages, learnt = _messages(_required(data, "messages", list, ""), "messages")
    if messages[-1].role != "assistant":
        role, where = messages[-1].role, f"messages[{len(messages) - 1}].role"
        raise BadExample("wrong_role", f"The last message should be the assistant's, not the {role}'s.", where)
    if not any(learnt):
        raise BadExample("nothing_to_learn", "Every message of the assistant has the weight 0.", "messages")
    return Conversation(messages, learnt)


def _preference(data: dict[str, Any]) -> Preference:
    _only(data, ("input", "preferred_output", "non_preferred_output"), "")
    given = _required(data, "input", dict, "")
    _only(given, ("messages",), "input.")
    prompt, _ = _messages(_required(given, "messages", list, "input."), "input.messages")
    if prompt[-1].role != "user":
        where = f"input.messages[{len(prompt) - 1}].role"
        raise BadExample("wrong_role", "The last message of `input` should be the user's.", where)
    preferred, rejected = (_answer(data, name) for name in ("preferred_output", "non_preferred_output"))
    if preferred == rejected:
        raise BadExample("no_preference", "Both outputs are the same.", "non_preferred_output")
    return Preference(prompt, preferred, rejected)


def _answer(data: dict[str, Any], name: str) -> str:
    messages, _ = _messages(_required(data, name, list, ""), name)
    if len(messages) != 1 or messages[0].role != "assistant":
        raise BadExample("wrong_role", f"`{name}` should be one message, the assistant's.", name)
    return messages[0].content


def _messages(data: list[Any], where: str) -> tuple[tuple[Message, ...], tuple[bool, ...]]:
    if not data:
        raise BadExample("empty", f"`{where}` has no messages.", where)
    read = [_message(each, f"{where}[{place}]") for place, each in enumerate(data)]
    for place, (message, _) in enumerate(read):
        if place and message.role == "system":
            words = "Only the first message may be the system's."
            raise BadExample("wrong_role", words, f"{where}[{place}].role")
    return tuple(message for message, _ in read), tuple(learnt for _, learnt in read)


def _message(data: Any, where: str) -> tuple[Message, bool]:
    if not isinstance(data, dict):
        raise BadExample("invalid_example", f"`{where}` should be an object.", where)
    _only(data, ("role", "content", "weight"), f"{where}.")
    role = _required(data, "role", str, f"{where}.")
    if role not in _ROLES:
        words = f"`{where}.role` is {role[:_TOLD]!r}; it should be one of {', '.join(_ROLES)}."
        raise BadExample("wrong_role", words, f"{where}.role")
    content = _required(data, "content", str, f"{where}.")
    if not content.strip():
        raise BadExample("empty", f"`{where}.content` is empty.", f"{where}.content")
    weight = data.get("weight", 1)
    if isinstance(weight, bool) or weight not in (0, 1) or ("weight" in data and role != "assistant"):
        words = f"`{where}.weight` should be 0 or 1, and only the assistant's messages have one."
        raise BadExample("invalid_example", words, f"{where}.weight")
    return Message("system" if role == "developer" else role, content), role == "assistant" and weight == 1


_KINDS: Final[dict[type[Any], str]] = {str: "a string", list: "an array", dict: "an object"}


def _required(data: dict[str, Any], name: str, kind: type[Any], where: str) -> Any:
    if name not in data:
        raise BadExample("missing_field", f"`{where}{name}` is required.", f"{where}{name}")
    if not isinstance(data[name], kind):
        raise BadExample("invalid_example", f"`{where}{name}` should be {_KINDS[kind]}.", f"{where}{name}")
    return data[name]


def _only(data: dict[str, Any], names: tuple[str, ...], where: str) -> None:
    for name in data:
        if name not in names:
            field = f"{where}{name[:_TOLD]}"
            raise BadExample("unknown_field", f"`{field}` is not a field of an example.", field)

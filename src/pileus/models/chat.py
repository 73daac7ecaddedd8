"""Chat templates: Jinja in a sandbox, and whose text is whose in what they render.

A template writes special tokens (`<|im_start|>`), and so may a person. The person's are only text. To tell them apart
after rendering, a mark (a private-use character that occurs in nobody's text) is put before each special token in
people's text first. Then the rendered text is split at unmarked special tokens, and the marks are taken out.
"""

import json
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NoReturn

from jinja2.exceptions import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from pileus.core.errors import InvalidRequest, ModelRefused
from pileus.core.records import Message

_MARKS = [chr(code) for code in range(0xE000, 0xF8FF)]


class ChatTemplate:
    """A model's template, compiled once."""

    def __init__(self, source: str, special: Sequence[str], variables: dict[str, str]) -> None:
        """`special` are the token strings that only the template may write; `variables` e.g. `bos_token`."""
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _tojson
        environment.globals |= {"raise_exception": _raise_exception, "strftime_now": _strftime_now, **variables}
        try:
            self._template = environment.from_string(source)
        except TemplateError as error:
            raise ModelRefused(f"its chat template is not valid ({error})") from error
        self._firsts = tuple({token[0] for token in special})
        self._in_text = _occurrences(special)

    def render(self, messages: Sequence[Message]) -> tuple[str, str]:
        """The text up to the assistant's turn, and the mark in it; an empty mark where none was needed."""
        turns = [{"role": message.role, "content": message.content} for message in messages]
        mark = self._mark(turns)
        try:
            text = self._template.render(messages=turns, add_generation_prompt=True, tools=None, documents=None)
        except TemplateError as error:
            raise InvalidRequest(f"the chat template refuses the messages: {error}", param="messages") from error
        return text, mark

    def _mark(self, turns: list[dict[str, str]]) -> str:
        """Put a mark before each special token, or beginning of one at the end, in people's text."""
        mark = ""
        for turn in turns:
            for field, text in turn.items():
                if any(first in text for first in self._firsts) and self._in_text.search(text):
                    mark = mark or _unused_mark(turns)
                    turn[field] = self._in_text.sub(mark, text)
        return mark


def _unused_mark(turns: list[dict[str, str]]) -> str:
    everything = "".join(text for turn in turns for text in turn.values())
    mark = next((mark for mark in _MARKS if mark not in everything), None)
    if mark is None:
        raise InvalidRequest("the messages use every private-use character", param="messages")
    return mark


def _occurrences(special: Sequence[str]) -> re.Pattern[str]:
    """Matches, without width, where a special token is, or the beginning of one at the end: what follows may complete
    it."""
    whole = [re.escape(token) for token in sorted(special, key=len, reverse=True)]
    beginnings = {token[:length] for token in special for length in range(1, len(token))}
    cut = [re.escape(beginning) + r"\Z" for beginning in sorted(beginnings, key=len, reverse=True)]
    return re.compile(f"(?={'|'.join(whole + cut)})" if special else "(?!)")


def _tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    """Unlike Jinja's own, does not escape HTML: prompts are not pages."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)  # noqa: DTZ005 - the date as people here write it

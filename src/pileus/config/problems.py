"""Says what is wrong with a setting and how to put it right, in the operator's words instead of the validator's."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pileus.config.settings import PATTERN_WORDS

Loc = tuple[str | int, ...]

_EXPECTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "a text in quotes",
    "path_type": "a path in quotes",
    "tuple_type": "a list, as in `[...]`",
    "list_type": "a list, as in `[...]`",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
}
_BOUNDS = {
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
    "string_too_short": "a text of at least {min_length} character(s)",
}


def closest(word: str, known: Iterable[str]) -> str:
    """`; did you mean ...?`, or the known words where none is near."""
    names = sorted(known)
    near = difflib.get_close_matches(word.lower(), names, n=1, cutoff=0.6)
    if near:
        return f"; did you mean `{near[0]}`?"
    return f"; known here: {', '.join(f'`{name}`' for name in names)}" if names else ""


def explain(error: ValidationError, model: type[BaseModel]) -> Iterator[tuple[Loc, str]]:
    """Each mistake as its place and a sentence: what was found, what belongs there."""
    mistakes = error.errors(include_url=False)
    for details in mistakes:
        loc = details["loc"]
        inside = any(len(other["loc"]) > len(loc) and other["loc"][: len(loc)] == loc for other in mistakes)
        if not (inside and details["type"] == "too_short"):  # a list whose items are wrong is called empty as well
            yield loc, _sentence(details, model)


def _sentence(details: ErrorDetails, model: type[BaseModel]) -> str:
    kind, context = details["type"], details.get("ctx", {})
    found = _shown(details["input"])
    if kind == "extra_forbidden":
        name = str(details["loc"][-1])
        return f"unknown setting{closest(name, _fields_at(model, details['loc'][:-1]))}"
    if kind == "missing":
        return f"is missing; add `{details['loc'][-1]} = ...`"
    if kind in _EXPECTED:
        return f"must be {_EXPECTED[kind]}, not {found}"
    if kind in _BOUNDS:
        bounds = {
            name: int(bound) if isinstance(bound, float) and bound.is_integer() else bound
            for name, bound in context.items()
        }
        return f"must be {_BOUNDS[kind].format_map(bounds)}, not {found}"
    if kind in ("literal_error", "enum"):
        return f"must be {context['expected']}, not {found}" + _near_literal(details["input"], context["expected"])
    if kind == "string_pattern_mismatch":
        wanted = PATTERN_WORDS.get(context["pattern"], f"a text that matches {context['pattern']}")
        return f"must be {wanted}, not {found}"
    return f"{details['msg'][:1].lower()}{details['msg'][1:]}, not {found}"


def _near_literal(found: object, expected: str) -> str:
    words = [word for word in expected.split("'") if word.isidentifier() and word != "or"]
    near = difflib.get_close_matches(str(found).lower(), words, n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else ""


def _shown(value: object) -> str:
    text = ("true" if value else "false") if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _fields_at(model: type[BaseModel], loc: Loc) -> Mapping[str, Any]:
    """The settings that exist where an unknown one was found."""
    for step in loc:
        if isinstance(step, int):
            continue
        field = model.model_fields.get(step)
        inner = field and next(_models_in(field.annotation), None)
        if not inner:
            return {}
        model = inner
    return model.model_fields


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)

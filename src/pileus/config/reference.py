"""Makes `docs/configuration.md` from the settings themselves, and from the options of the engines that it is given.

`make docs` prints it through `bootstrap.reference`, which knows the engines. A test holds the page against that, so
that it cannot fall behind.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from pileus.config.load import PREFIX
from pileus.config.settings import Settings

Schema = Mapping[str, Any]

EXAMPLE = """\
data_dir = "/srv/pileus"

[server]
port = 8080

[log]
format = "json"

[[deployment]]
name = "smollm2-135m"
model = "smollm2-135m-instruct"
replicas = 2
aliases = ["default"]
price = { prompt = 50_000, completion = 200_000 }
"""

_INTRODUCTION = f"""\
<!-- Made by `make docs` from src/pileus/config/settings.py and the options type of each engine: change those. -->

# Configuration

Pileus runs without any configuration. What you do set comes from four places, each stronger than the one before:

1. the defaults below;
2. `pileus.toml` in the current folder, or the file given with `--config`;
3. environment variables: `{PREFIX}` and the setting's path, joined by two underscores (`{PREFIX}SERVER__PORT=8080`). A
   value is read as TOML where it is valid TOML (`true`, `["cache", "pypi"]`), and as plain text otherwise;
4. flags of the command.

`pileus config show` prints every setting with its value and where it came from. `pileus config check` names the file
and the line of every mistake, and how to put it right. Unknown settings are mistakes.

```toml
{EXAMPLE}```
"""

_TYPES = {"integer": "whole number", "number": "number", "boolean": "true or false", "string": "text"}


def render(engines: Iterable[tuple[str, type[BaseModel]]]) -> str:
    """The page as Markdown. Each engine comes as its name and the type of its options."""
    schema = Settings.model_json_schema()
    sections = schema["$defs"]
    tables = {name: field for name, field in schema["properties"].items() if _section(field)}
    parts = [_INTRODUCTION, "## General\n", *_table("", _plain(schema, tables))]
    for name, field in tables.items():
        section = sections[_section(field)]
        heading = f"[[{name}]]" if field.get("type") == "array" else f"[{name}]"
        nested = {inner: inner_field for inner, inner_field in section["properties"].items() if _section(inner_field)}
        parts += [f"## `{heading}`\n", f"{section['description']} {field.get('description', '')}".strip() + "\n"]
        parts += _table("" if field.get("type") == "array" else f"{name}.", _plain(section, nested))
        for inner, inner_field in nested.items():
            inner_section = sections[_section(inner_field)]
            parts += [f"### `{inner}`\n", f"{inner_section['description']}\n"]
            parts += _table(f"{inner}.", _plain(inner_section, {}))
    parts += ["## Engines' options\n", "What may stand in the `options` of a deployment, by its `engine`.\n"]
    for engine, options in engines:
        parts += _engine(engine, options.model_json_schema())
    return "\n".join(parts)


def _engine(name: str, options: Schema) -> Iterator[str]:
    yield f"### `{name}`\n"
    yield f"{options['description']}\n"
    yield from _table("options.", _plain(options, {}))


def _plain(schema: Schema, sections: Schema) -> Schema:
    """A section's own fields, with `required` noted on each."""
    required = schema.get("required", ())
    return {
        name: {**field, "required": name in required}
        for name, field in schema["properties"].items()
        if name not in sections
    }


def _section(field: Schema) -> str:
    """The name of the section that a field holds, if it holds one."""
    reference = field.get("$ref") or field.get("items", {}).get("$ref") or ""
    return str(reference).rpartition("/")[2]


def _table(prefix: str, fields: Schema) -> Iterator[str]:
    rows = [("Setting", "Type", "Default", "Meaning"), ("---", "---", "---", "---")]
    rows += [
        (f"`{prefix}{name}`", _type(field), _default(field), field["description"]) for name, field in fields.items()
    ]
    yield "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows) + "\n"


def _type(field: Schema) -> str:
    if "anyOf" in field:
        return (
            ", or absent".join(_type(option) for option in field["anyOf"] if option.get("type") != "null")
            + ", or absent"
        )
    if "enum" in field:
        return " or ".join(f"`{_toml(word)}`" for word in field["enum"])
    if "oneOf" in field:
        return "table"
    if field["type"] == "array":
        return f"list of {_type(field['items'])}"
    if field["type"] == "object":
        return "table"
    if field.get("format") == "path":
        return "path"
    low, high = field.get("minimum", field.get("exclusiveMinimum")), field.get("maximum")
    more = "more than" if "exclusiveMinimum" in field else "at least"
    bounds = [f"{more} {low}"] * (low is not None) + [f"at most {high}"] * (high is not None)
    return ", ".join([_TYPES[field["type"]], *bounds])


def _default(field: Schema) -> str:
    if field["required"]:
        return "required"
    if "shown_default" in field:
        return f"`{field['shown_default']}`"
    default = field.get("default")
    return "absent" if default is None and field.get("type") != "object" else f"`{_toml(default)}`"


def _toml(value: object) -> str:
    """A default as one would write it in the file."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() if value >= 100_000:
            return f"{value:_}"
        case str():
            return f'"{value}"'
        case list():
            return "[" + ", ".join(map(_toml, value)) + "]"
        case None:
            return "{}"
    return str(value)

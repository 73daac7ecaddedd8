"""Settings from four layers: defaults < `pileus.toml` < `PILEUS_*` < flags, each value knowing where it came from.

A mistake is reported with its file and line (or variable, or flag), the setting's name and the fix; all mistakes at
once, one a line.
"""

import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from pileus.config.problems import Loc, explain
from pileus.config.settings import Deployment, Settings
from pileus.config.toml_lines import key_paths, locate
from pileus.core.errors import ConfigError

PREFIX = "PILEUS_"
# Not settings: the command line reads which server to speak to, with which key, and which file to load.
CLIENT_VARIABLES = frozenset({"PILEUS_API_KEY", "PILEUS_URL", "PILEUS_CONFIG"})
TEST_PREFIX = "PILEUS_TEST_"
DEFAULT = "default"  # the origin of what nobody wrote

Options = TypeVar("Options", bound=BaseModel)


@dataclass(frozen=True)
class Loaded:
    """The settings, and where each came from: `default`, `FILE:LINE`, `PILEUS_X` or `flag`.

    Keys are dotted (`server.port`); a deployment goes by its name (`deployment.smollm2-135m.replicas`).
    """

    settings: Settings
    origin: Mapping[str, str]

    def rows(self) -> Iterator[tuple[str, Any, str]]:
        """(key, value, origin) of every setting, in the order of the tree."""
        for key, value in _leaves(self.settings.model_dump(mode="json")):
            yield key, value, self.origin[key]


def load_settings(file: Path | None, environ: Mapping[str, str], flags: Mapping[str, Any]) -> Loaded:
    """Merge the layers. `flags` are dotted keys; a flag that is `None` was not given.

    Raises `ConfigError` with one line for each mistake.
    """
    tree: dict[str, Any] = {}
    places: dict[Loc, str] = {}
    if file is not None:
        tree, places = _read_toml(file)
    for name, value in sorted(environ.items()):
        if name.startswith(PREFIX) and not name.startswith(TEST_PREFIX) and name not in CLIENT_VARIABLES:
            _put(tree, places, tuple(name.removeprefix(PREFIX).lower().split("__")), _from_text(value), name)
    for key, value in flags.items():
        if value is not None:
            _put(tree, places, tuple(key.split(".")), value, "flag")
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(_report(explain(error, Settings), places)) from None
    if clashes := list(_name_clashes(settings)):
        raise ConfigError(_report(clashes, places))
    return Loaded(settings, _origins(settings, tree, places))


def validate_options(options_type: type[Options], deployment: Deployment, origin: Mapping[str, str]) -> Options:
    """A deployment's `options` as its driver's own type; mistakes are told like those of any other setting."""
    base = f"deployment.{deployment.name}.options"
    try:
        return options_type.model_validate(deployment.options)
    except ValidationError as error:
        lines = []
        for loc, sentence in explain(error, options_type):
            key = ".".join((base, *map(str, loc)))
            lines.append(f"{origin_of(key, origin)}: {key}: {sentence} (engine `{deployment.engine}`)")
        raise ConfigError("\n".join(lines)) from None


def mistaken(deployment: Deployment, field: str, sentence: str, origin: Mapping[str, str]) -> ConfigError:
    """The error for a deployment that no server can run as it is."""
    key = f"deployment.{deployment.name}.{field}"
    return ConfigError(f"{origin_of(key, origin)}: {key}: {sentence}")


def origin_of(key: str, origin: Mapping[str, str]) -> str:
    """Where a setting was written; of one that was not, the nearest thing around it that was."""
    while key and key not in origin:
        key = key.rpartition(".")[0]
    return origin.get(key, "settings")


def _origins(settings: Settings, tree: Mapping[str, Any], places: Mapping[Loc, str]) -> dict[str, str]:
    """The origin of every setting, and the place of every table that was written."""
    given = {_dotted(path, settings): _place(path, places) for path in key_paths(tree)}
    every = {key: given.get(key, DEFAULT) for key, _ in _leaves(settings.model_dump(mode="json"))}
    return {_dotted(path, settings): place for path, place in places.items()} | every


def _read_toml(file: Path) -> tuple[dict[str, Any], dict[Loc, str]]:
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}; give another file with --config") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: is not UTF-8 text; save it as UTF-8") from None
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(_syntax_error(file, str(error), text)) from None
    return tree, {path: f"{file}:{line}" for path, line in locate(text).items()}


def _syntax_error(file: Path, message: str, text: str) -> str:
    """tomllib ends its messages with `(at line L, column C)` or `(at end of document)`."""
    what, _, where = message.partition(" (at ")
    words = where.removesuffix(")").replace(",", "").split()
    line = int(words[1]) if words[:1] == ["line"] else text.count("\n") + 1
    return f"{file}:{line}: not valid TOML: {what[:1].lower()}{what[1:]}"


def _from_text(value: str) -> Any:
    """A variable's value as TOML would read it (`8000`, `true`, `["a"]`, `[{name = "x"}]`), else the text itself."""
    try:
        return tomllib.loads(f"value = {value}")["value"]
    except (tomllib.TOMLDecodeError, KeyError):
        return value


def _put(tree: dict[str, Any], places: dict[Loc, str], path: tuple[str, ...], value: Any, place: str) -> None:
    """Set one value of a higher layer; where it replaces a table, the lower layer's keys in it are forgotten."""
    node = tree
    for step in path[:-1]:
        inner = node.get(step)
        if not isinstance(inner, dict):
            inner = node[step] = {}
        node = inner
    node[path[-1]] = value
    for old in [loc for loc in places if loc[: len(path)] == path]:
        del places[old]
    places[path] = place


def _place(loc: Loc, places: Mapping[Loc, str]) -> str:
    """The place of a setting; else of something inside it, or of the nearest thing around it, that was written."""
    inside = (place for path, place in places.items() if path[: len(loc)] == loc)
    around = (places[loc[:end]] for end in range(len(loc), 0, -1) if loc[:end] in places)
    return places.get(loc) or next(inside, None) or next(around, "settings")


def _report(mistakes: Iterable[tuple[Loc, str]], places: Mapping[Loc, str]) -> str:
    """One line for each mistake, in the order in which the settings were written."""
    order = {place: number for number, place in enumerate(places.values())}
    placed = [(_place(loc, places), ".".join(map(str, loc)), sentence) for loc, sentence in mistakes]
    return "\n".join(": ".join(line) for line in sorted(placed, key=lambda line: order.get(line[0], -1)))


def _name_clashes(settings: Settings) -> Iterator[tuple[Loc, str]]:
    """A name or alias that two deployments claim would make routing a matter of luck."""
    names = [name for deployment in settings.deployment for name in (deployment.name, *deployment.aliases)]
    seen: Counter[str] = Counter()
    claimed = Counter(names)
    for index, deployment in enumerate(settings.deployment):
        claims: list[tuple[Loc, str]] = [(("deployment", index, "name"), deployment.name)]
        claims += [(("deployment", index, "aliases", i), alias) for i, alias in enumerate(deployment.aliases)]
        for loc, name in claims:
            seen[name] += 1
            if claimed[name] > 1 and seen[name] > 1:
                yield loc, f"`{name}` already names a deployment; choose another"


def _dotted(loc: Loc, settings: Settings) -> str:
    match loc:
        case ("deployment", int(index), *rest):
            return ".".join(("deployment", settings.deployment[index].name, *map(str, rest)))
    return ".".join(map(str, loc))


def _leaves(tree: Mapping[str, Any], base: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        key = f"{base}{name}"
        if key == "deployment":
            for deployment in value:
                yield from _leaves(deployment, f"deployment.{deployment['name']}.")
        elif isinstance(value, dict) and value:
            yield from _leaves(value, f"{key}.")
        else:
            yield key, value

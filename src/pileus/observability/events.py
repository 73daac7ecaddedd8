"""Named events with context on standard error, as lines for people or as JSON.

    log = get_log(__name__)
    log.info("replica.started", replica="smollm2/0", pid=4711)

What callers send never reaches a line as it came: control characters (a forged line, a terminal escape) are written
out, API keys are cut, and fields that could carry a prompt are dropped. Lines of the standard library's `logging`
(uvicorn, Alembic) take the same way.
"""

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor

Level = Literal["debug", "info", "warning", "error"]

_API_KEY = re.compile(r"(sk-[A-Za-z]{0,16}-?)[A-Za-z0-9_-]{8,}")
_NEVER_SHOWN = frozenset(
    {"api_key", "authorization", "completion", "content", "messages", "pepper", "prompt", "secret", "text"}
)
_OVER_SEVERAL_LINES = frozenset({"exception", "stack"})
_DEPTH = 4


def configure(level: Level, form: Literal["console", "json"], stream: TextIO | None = None) -> None:
    """Set up the process's event log; called once, by bootstrap."""
    out = stream or sys.stderr
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        make_safe,
    ]
    render = _renderer(form, out)
    structlog.configure(
        processors=[*shared, render],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(number, logging.WARNING), force=True)


def get_log(module: str) -> structlog.typing.FilteringBoundLogger:
    """A module's log. May be made at import: the set-up is looked up when an event is written."""
    log: structlog.typing.FilteringBoundLogger = structlog.get_logger(module=module.removeprefix("pileus."))
    return log


def make_safe(_logger: object, _method: str, event: EventDict) -> EventDict:
    """The last processor before the renderer: nothing unsafe gets past it."""
    return {
        escape(str(name)): "[not shown]" if name in _NEVER_SHOWN else _safe(value, lines=name in _OVER_SEVERAL_LINES)
        for name, value in event.items()
    }


def escape(text: str, keep: str = "") -> str:
    """The text with every character that is not printable written as an escape, except those in `keep`."""
    if text.isprintable():
        return text
    return "".join(
        char if char in keep or char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def _safe(value: Any, *, lines: bool = False, depth: int = 0) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping | list | tuple) and depth == _DEPTH:
        return "..."
    if isinstance(value, Mapping):
        return {
            escape(str(name)): "[not shown]" if name in _NEVER_SHOWN else _safe(inner, depth=depth + 1)
            for name, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [_safe(inner, depth=depth + 1) for inner in value]
    text = escape(str(value), keep="\n").replace("\n", "\n    ") if lines else escape(str(value))
    return _API_KEY.sub(r"\1***", text)


def _renderer(form: Literal["console", "json"], out: TextIO) -> Processor:
    if form == "json":
        return structlog.processors.JSONRenderer(ensure_ascii=False)
    return structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback)

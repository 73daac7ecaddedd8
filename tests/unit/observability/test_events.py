"""Nothing that a caller sends can forge a line, reach the terminal, or leave a secret in the log."""

import io
import json
import logging
import re
from collections.abc import Callable, Iterator
from typing import Literal

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from pileus.observability.events import configure, escape, get_log, make_safe
from pileus.security.secret import new_secret

log = get_log("pileus.tests")

Written = Callable[[], str]


@pytest.fixture
def logged() -> Iterator[Callable[..., Written]]:
    """Sets the log up on a stream of the test's, and everything back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def begin(
        form: Literal["console", "json"] = "json", least: Literal["debug", "info", "warning"] = "info"
    ) -> Written:
        stream = io.StringIO()
        configure(least, form, stream)
        return stream.getvalue

    yield begin
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_an_event_is_one_json_object_with_its_context(logged: Callable[..., Written]) -> None:
    written = logged()
    log.info("replica.started", replica="d/0", pid=4711, ready=True, ms=1.5, names=["a"])
    event = json.loads(written())
    assert event.pop("timestamp").endswith("Z")
    assert event == {
        "event": "replica.started",
        "level": "info",
        "module": "tests",
        "replica": "d/0",
        "pid": 4711,
        "ready": True,
        "ms": 1.5,
        "names": ["a"],
    }


def test_events_below_the_level_are_not_written(logged: Callable[..., Written]) -> None:
    written = logged(least="warning")
    log.info("quiet")
    log.warning("loud")
    assert "quiet" not in written()
    assert "loud" in written()


@pytest.mark.parametrize("form", ["console", "json"])
def test_control_characters_are_written_out(logged: Callable[..., Written], form: str) -> None:
    written = logged(form)
    log.info("request", name="x\r\n2026 forged \x1b[31mred\x1b[0m", **{"k\ney": {"in\nner": ["a\nb"]}})
    assert written().count("\n") == 1
    assert "\r" not in written()
    assert "\x1b" not in written()


@pytest.mark.parametrize("form", ["console", "json"])
def test_no_api_key_is_written(logged: Callable[..., Written], form: str) -> None:
    written, secret = logged(form), new_secret()
    log.info(f"event {secret}", name=f"bad key {secret}!", nested={"deep": [secret]}, authorization="Bearer abc")
    logging.getLogger("other").warning("saw %s", secret)
    try:
        raise ValueError(secret)
    except ValueError:
        log.exception("failed")
    assert secret[12:] not in written()
    assert "abc" not in written()
    assert "sk-pileus-***" in written()


@pytest.mark.parametrize("form", ["console", "json"])
def test_no_prompt_text_is_written(logged: Callable[..., Written], form: str) -> None:
    written = logged(form)
    deep = {"a": {"b": {"c": {"d": {"e": {"prompt": "my heart"}}}}}}
    log.info("request", prompt="my heart", messages=["my heart"], request={"content": "my heart"}, deep=deep)
    assert "heart" not in written()


def test_the_message_of_an_exception_cannot_begin_a_line_of_its_own(logged: Callable[..., Written]) -> None:
    written = logged("console")
    try:
        raise ValueError("x\n2026-01-01T00:00:00Z [info] key.create ok\r\x1b[31m")
    except ValueError:
        log.exception("failed")
    assert not re.search(r"^2026-01-01", written(), re.MULTILINE)
    assert not re.search(r"[\r\x1b]", written())


def test_lines_of_other_libraries_take_the_same_way(logged: Callable[..., Written]) -> None:
    written = logged()
    logging.getLogger("uvicorn.error").warning("bad request from %s", "x\nforged")
    assert json.loads(written())["event"] == r"bad request from x\nforged"
    assert json.loads(written())["level"] == "warning"


@given(st.text())
def test_an_escaped_text_is_printable_and_keeps_what_was(text: str) -> None:
    assert escape(text).isprintable()
    assert text.isprintable() <= (escape(text) == text)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)
    )
)
def test_any_value_can_be_written_as_json(value: object) -> None:
    safe = make_safe(None, "info", {"event": "x", "value": value})
    json.dumps(safe, ensure_ascii=False).encode("utf-8")

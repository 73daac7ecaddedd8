"""What the fake engine promises beyond the engine contract."""

import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from contract.running_engine import RunningEngine
from pileus.core.records import EngineRequest, FinishReason, SamplingParams
from pileus.testing.fake import DRIVER, EngineBroken, FakeEngine
from pileus.testing.options import FakeOptions


def running(**options: Any) -> RunningEngine:
    return RunningEngine(FakeEngine(FakeOptions(**options)))


def ask(*prompt: int, max_tokens: int = 8, salt: bytes = b"", **wishes: Any) -> EngineRequest:
    return EngineRequest(0, prompt or (1,), SamplingParams(max_tokens=max_tokens, seed=1, **wishes), salt=salt)


def test_the_answer_is_the_same_in_another_process() -> None:
    [answer] = running().run(ask(1, 2, 3))
    script = (
        "from pileus.testing.answers import Answers; from pileus.testing.options import FakeOptions;"
        "from pileus.core.records import *;"
        "answers = Answers(FakeOptions());"
        "place = answers.beginning(EngineRequest(0, (1, 2, 3), SamplingParams(max_tokens=8, seed=1)), 0);"
        "print([answers.ring[(place + i) % answers.size] for i in range(8)])"
    )
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == str(answer.only)


def test_it_says_only_the_tokens_that_it_was_given() -> None:
    [answer] = running(tokens=(5, 6, 7)).run(ask(max_tokens=20))
    assert set(answer.only) == {5, 6, 7}


def test_it_says_a_text_byte_by_byte_and_stops() -> None:
    [answer] = running(text="日本").run(ask(max_tokens=100))
    assert bytes(answer.only).decode() == "日本"
    assert answer.finish.reason is FinishReason.STOP


def test_a_text_longer_than_max_tokens_is_cut() -> None:
    [answer] = running(text="abcdef").run(ask(max_tokens=3))
    assert (bytes(answer.only), answer.finish.reason) == (b"abc", FinishReason.LENGTH)


def test_it_stops_by_itself_after_as_many_tokens_as_it_was_told() -> None:
    [answer] = running(answer_tokens=5).run(ask(max_tokens=100))
    assert (len(answer.only), answer.finish.reason) == (5, FinishReason.STOP)


def test_a_prefix_is_found_again_in_whole_blocks_by_the_same_tenant_only() -> None:
    engine = running(block_size=4)
    prompt = tuple(range(10))
    cached = [engine.run(ask(*prompt, salt=salt))[0].started[0].cached_tokens for salt in (b"a", b"a", b"b", b"b")]
    assert cached == [0, 8, 0, 8]
    [other] = engine.run(ask(*prompt[:6], 99, 98, 97, salt=b"a"))
    assert other.started[0].cached_tokens == 4
    [whole] = engine.run(ask(*prompt[:8], salt=b"a"))
    assert whole.started[0].cached_tokens == 4  # the last token is always computed


def test_prefill_takes_its_time_for_what_is_not_cached() -> None:
    engine = running(prefill_s_per_token=0.001)
    prompt = tuple(range(96))
    first, again = (engine.run(ask(*prompt))[0].started[0].prefill_s for _ in range(2))
    assert first >= 0.096
    assert again >= 0.032


def test_a_request_that_needs_more_blocks_than_there_are_ends_with_an_error() -> None:
    [answer] = running(kv_blocks=4, block_size=4).run(ask(1, 2, 3, max_tokens=13))
    assert "5 KV blocks of 4" in answer.finish.error
    [fits] = running(kv_blocks=4, block_size=4).run(ask(1, 2, 3, max_tokens=12))
    assert len(fits.only) == 12


def test_an_answer_ends_where_the_context_does() -> None:
    [answer] = running(max_context=10).run(ask(1, 2, 3, max_tokens=50))
    assert (len(answer.only), answer.finish.reason) == (7, FinishReason.LENGTH)


def test_a_step_takes_as_long_as_it_was_told_and_slow_makes_it_longer() -> None:
    engine = running(step_s=0.002, faults=[{"kind": "slow", "factor": 10, "after_tokens": 5}])
    engine.run(ask(max_tokens=5))
    quick_s = engine.engine.stats().step_s
    engine.run(ask(max_tokens=5))
    assert quick_s >= 5 * 0.002
    assert engine.engine.stats().step_s - quick_s >= 5 * 0.02


def test_a_refused_prompt_token_ends_that_request_alone() -> None:
    engine = running(faults=[{"kind": "refuse", "prompt_token": 13}])
    bad, good = engine.run(ask(1, 13), ask(1, 2))
    assert (bad.finish.reason, good.finish.reason) == (FinishReason.ERROR, FinishReason.LENGTH)


def test_it_breaks_when_it_was_told_to() -> None:
    engine = running(faults=[{"kind": "break", "after_tokens": 10}])
    assert len(engine.run(ask())[0].only) == 8
    with pytest.raises(EngineBroken):
        engine.run(ask())


def test_unknown_options_and_faults_are_refused() -> None:
    for options in ({"step": 1}, {"faults": [{"kind": "explode"}]}, {"slots": 0}, {"tokens": []}):
        with pytest.raises(ValidationError):
            DRIVER.options(**options)

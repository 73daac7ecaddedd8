"""`pileus compress` against a scripted server; what it asks for is a spec that the job takes."""

from typing import Any

import msgspec
import pytest

from pileus.cli import watch
from pileus.compression.spec import CompressSpec, Form
from unit.cli.conftest import Pileus, Stub
from unit.cli.test_jobs import DONE, ERROR, JOB, PATH

LINES = ["tiny: 4.0 MB, perplexity 20.00 (+0.0%)", "tiny-int8: 2.0 MB, perplexity 20.10 (+0.5%)", "report: /reports/x"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "LOOK_S", 0.001)


@pytest.fixture
def server(stub: Stub) -> Stub:
    stub.answer("POST", "/v1/jobs", JOB)
    stub.answer("GET", PATH, DONE)
    lines = [{"sequence": n, "at": 0.0, "level": "info", "text": text} for n, text in enumerate(["begun", *LINES])]
    stub.answer("GET", f"{PATH}/logs?limit=100", {"data": lines})
    return stub


def _asked(stub: Stub) -> CompressSpec:
    (body,) = stub.bodies
    assert body["kind"] == "compress"
    return msgspec.convert(body["spec"], CompressSpec)


def test_it_asks_for_one_variant_and_tells_what_came_out(pileus: Pileus, server: Stub) -> None:
    done = pileus("compress", "tiny", "--to", "int8")
    assert (done.status, done.out.splitlines()) == (0, LINES)
    (variant,) = _asked(server).variants
    assert (variant.name, variant.to) == ("tiny-int8", Form.INT8)


def test_four_bits_are_tuned_unless_they_are_not_to_be(pileus: Pileus, server: Stub) -> None:
    pileus("compress", "tiny", "--to", "int4")
    pileus("compress", "tiny", "--to", "int4", "--tuned", "none")
    tuned = [msgspec.convert(body["spec"], CompressSpec).variants[0].weights.tuned for body in server.bodies]
    assert tuned == [("gptq",), ()]


def test_awq_leaves_the_tenderest_fifth_in_8_bits_unless_it_is_told_otherwise(pileus: Pileus, server: Stub) -> None:
    for options in (["--tuned", "awq"], ["--tuned", "awq", "--share", "1"], ["--tuned", "gptq"]):
        pileus("compress", "tiny", "--to", "int4", *options)
    pileus("compress", "tiny", "--all")
    *single, every = (msgspec.convert(body["spec"], CompressSpec).variants for body in server.bodies)
    assert [variant.weights.share for (variant,) in single] == [0.8, 1.0, 1.0]
    assert [variant.weights.share for variant in every if variant.to == Form.INT4] == [0.8, 1.0]


def test_options_become_the_spec(pileus: Pileus, server: Stub) -> None:
    options = ["--tuned", "gptq", "--group", "64", "--symmetric", "--name", "four", "--tokens", "100", "--rounds", "0"]
    options += ["--window", "128"]
    pileus("compress", "tiny", "--to", "int4", *options, "--text", "t.txt")
    asked = _asked(server)
    (variant,) = asked.variants
    assert (variant.name, variant.weights.tuned, variant.weights.group) == ("four", ("gptq",), 64)
    assert variant.weights.symmetric
    assert (asked.checks.tokens, asked.checks.speed_rounds) == (100, 0)
    assert (asked.checks.window, asked.checks.stride) == (128, 64)
    assert asked.checks.text.startswith("/")  # the job runs elsewhere
    assert asked.checks.text.endswith("/t.txt")


def test_training_is_asked_for_with_the_teacher(pileus: Pileus, server: Stub) -> None:
    pileus(
        "compress", "tiny", "--to", "distilled", "--layers", "3", "--steps", "50", "--rate", "0.001", "--then", "int8"
    )
    (variant,) = _asked(server).variants
    assert (variant.distillation.layers, variant.distillation.learning.steps) == (3, 50)
    assert variant.distillation.learning.logits > 0
    assert variant.distillation.learning.rate == 0.001
    assert variant.weights_form == Form.INT8


def test_a_student_learns_hidden_states_too_where_they_are_asked_for_and_a_pruned_model_does_not(
    pileus: Pileus, server: Stub
) -> None:
    pileus("compress", "tiny", "--all", "--hidden", "0.5")
    variants = {variant.name: variant for variant in _asked(server).variants}
    learning = {
        name: variants[f"tiny-{name}"].distillation.learning.hidden for name in ("distilled", "distilled-alone")
    }
    assert learning == {"distilled": 0.5, "distilled-alone": 0.0}
    assert variants["tiny-pruned"].pruning.recovery.hidden == 0.0


def test_smoothing_is_told(pileus: Pileus, server: Stub) -> None:
    pileus("compress", "tiny", "--to", "full-int8", "--smooth", "0.5")
    assert _asked(server).variants[0].weights.smooth == 0.5


def test_without_steps_what_is_pruned_does_not_recover(pileus: Pileus, server: Stub) -> None:
    pileus("compress", "tiny", "--to", "pruned", "--prune-by", "heads", "--amount", "0.5", "--steps", "0")
    pruning = _asked(server).variants[0].pruning
    assert (pruning.by, pruning.amount, pruning.recovery.steps) == ("heads", 0.5, 0)


def test_all_is_one_of_each_form_and_two_of_four_bits(pileus: Pileus, server: Stub) -> None:
    pileus("compress", "tiny", "--all")
    variants = _asked(server).variants
    assert {variant.to for variant in variants} == set(Form)
    assert [variant.weights.tuned for variant in variants if variant.to == Form.INT4] == [("awq", "scale"), ("gptq",)]


def test_as_json_it_is_the_job_with_its_lines(pileus: Pileus, server: Stub) -> None:
    said: dict[str, Any] = pileus("compress", "tiny", "--to", "int8", "--json").json()
    assert said["state"] == "succeeded"
    assert said["lines"][-1] == LINES[-1]


@pytest.mark.parametrize("options", [[], ["--to", "int3"], ["--to", "int4", "--tuned", "magic"]])
def test_what_is_not_known_is_refused_before_anything_is_asked(
    options: list[str], pileus: Pileus, server: Stub
) -> None:
    assert pileus("compress", "tiny", *options).status == 2
    assert not server.bodies


def test_a_job_that_failed_is_an_error_with_its_reason(pileus: Pileus, server: Stub) -> None:
    server.answer("GET", PATH, JOB | {"state": "failed", "error": ERROR})
    done = pileus("compress", "tiny", "--to", "int8")
    assert done.status == 1
    assert "the file is gone" in done.err

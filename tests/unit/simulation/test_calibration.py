"""The file of an engine's figures, and how it is measured."""

from pathlib import Path

import pytest
from msgspec import structs

from pileus.simulation import calibration
from pileus.simulation.calibration import BadCalibration, Calibration
from pileus.simulation.fit import StepSample, calibrate, fit, measure
from pileus.testing.fake import FakeEngine
from pileus.testing.options import FakeOptions


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    told = Calibration(slots=7, step_s=0.5, source="by hand")
    calibration.save(told, tmp_path / "engine.json")
    assert calibration.load(tmp_path / "engine.json") == told


@pytest.mark.parametrize("text", ["{", '{"slots": 0}', '{"step_s": 0}', '{"slot": 8}', '{"kv_read_s": -1}', "[]"])
def test_what_is_no_calibration_is_refused_by_its_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "engine.json").write_text(text)
    with pytest.raises(BadCalibration, match=r"engine\.json"):
        calibration.load(tmp_path / "engine.json")


def test_a_context_is_no_longer_than_the_memory() -> None:
    assert Calibration(kv_blocks=10, block_size=4).longest == 36
    assert Calibration(kv_blocks=10, block_size=4, max_context=20).longest == 20


def sample(prefill: int, decodes: int, context: int, changes: int = 0) -> StepSample:
    return StepSample(
        seconds=0.01
        + 0.0002 * prefill
        + 0.002 * decodes
        + 1e-6 * decodes * context
        + 0.005 * (prefill > 0)
        + 0.007 * changes,
        prefill_tokens=prefill,
        decode_sequences=decodes,
        kv_read=decodes * context,
        attention=prefill * context,
        prefills=int(prefill > 0),
        changes=changes,
    )


def test_exact_steps_give_their_coefficients_back() -> None:
    steps = (
        (256, 0, 0, 1),
        (256, 0, 0),
        (100, 3, 50, 1),
        (0, 1, 32),
        (0, 8, 900),
        (0, 32, 64, 1),
        (20, 9, 7),
        (8, 2, 9),
    )
    samples = [sample(*step) for step in steps]
    fitted = fit(samples)
    assert fitted.error < 1e-6
    assert fitted.coefficients == pytest.approx(
        {
            "step_s": 0.01,
            "prefill_token_s": 2e-4,
            "decode_sequence_s": 2e-3,
            "kv_read_s": 1e-6,
            "attention_s": 0.0,
            "prefill_s": 0.005,
            "change_s": 0.007,
        },
        abs=1e-9,
    )


def test_steps_that_something_else_has_lengthened_do_not_draw_the_others_along() -> None:
    steps = [(prefill, decodes, 8 * prefill % 96) for prefill in (0, 8, 64, 250) for decodes in (1, 2, 8, 16)]
    samples = [sample(*step) for step in steps]
    disturbed = [structs.replace(one, seconds=5 * one.seconds) for one in samples[::5]]
    coefficients = fit(samples + disturbed).coefficients
    assert coefficients["step_s"] == pytest.approx(0.01, rel=0.01)
    assert coefficients["prefill_token_s"] == pytest.approx(2e-4, rel=0.01)


def test_no_coefficient_is_below_nought() -> None:
    samples = [StepSample(seconds=s, decode_sequences=d) for s, d in ((0.03, 1), (0.02, 2), (0.01, 4), (0.01, 8))]
    assert min(fit(samples).coefficients.values()) == 0.0


def test_there_must_be_something_to_fit() -> None:
    with pytest.raises(ValueError, match="nothing"):
        fit([])


CONTEXTS, LENGTHS = (32, 96, 256, 1024), range(16, 241, 32)
FAKE = FakeOptions(slots=4, kv_blocks=512, max_context=4096, step_s=0.002, prefill_s_per_token=0.00005)


def test_an_engines_steps_are_known_from_what_was_sent_and_said() -> None:
    engine = FakeEngine(FAKE)
    samples = list(measure(engine, 100_000, lambda done, total: None))
    engine.close()
    told = engine.stats()
    warm = [s for s in samples if s.prefill_tokens]
    together = {width * context for width in (1, 2, 4) for context in CONTEXTS}
    assert {s.prefill_tokens for s in warm} == together | set(LENGTHS)
    assert {(s.prefill_tokens, s.decode_sequences) for s in warm} >= {(length, 2) for length in LENGTHS}
    assert {s.decode_sequences for s in samples} == {0, 1, 2, 3, 4}
    assert [s.changes for s in samples[:4]] == [1, 1, 0, 0]  # a prompt of 32, then single tokens
    assert len(samples) < told.steps == len(samples) + 12


def test_a_measured_engine_is_fitted_and_described() -> None:
    engine = FakeEngine(FAKE)
    heard: list[tuple[int, int]] = []
    told = calibrate(engine, None, "fake", lambda done, total: heard.append((done, total)))
    engine.close()
    assert (told.slots, told.kv_blocks, told.max_context) == (4, 512, 4096)
    assert told.step_s == pytest.approx(0.002, rel=0.5)
    assert told.prefill_token_s == pytest.approx(0.00005, rel=0.3)
    assert heard[0] == (0, 29)
    assert heard[-1] == (29, 29)
    assert told.source.startswith("fake; half of the steps within")

import pytest

from pileus.compression import libraries
from pileus.compression.spec import Form, Target, Variant, Weights
from pileus.jobs.handler import JobFailed


@pytest.mark.parametrize(
    ("missing", "variant", "why"),
    [
        ("nncf", Variant(name="a", to=Form.INT8), "nncf is not installed here: `make extras`"),
        ("torch", Variant(name="a", to=Form.PRUNED), "torch is not installed here"),
        ("nncf", Variant(name="a", to=Form.DISTILLED, then=Form.INT8), "nncf is not installed"),
        ("llmcompressor", Variant(name="a", to=Form.INT8, target=Target.VLLM), "pip install --pre llmcompressor"),
    ],
)
def test_what_is_not_installed_is_said_before_anything_is_computed(
    monkeypatch: pytest.MonkeyPatch, missing: str, variant: Variant, why: str
) -> None:
    monkeypatch.setattr(libraries, "find_spec", lambda name: None if name == missing else object())
    with pytest.raises(JobFailed, match=why):
        libraries.demand_libraries([Variant(name="b", to=Form.FP16), variant])


def test_what_is_not_needed_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "find_spec", lambda name: object() if name == "matplotlib" else None)
    gguf = Variant(name="b", to=Form.INT4, target=Target.GGUF, weights=Weights(group=32))
    libraries.demand_libraries([Variant(name="a", to=Form.FP16), gguf])

"""What a compression needs installed, known before anything is computed."""

from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from typing import Final

from pileus.compression.spec import Form, Target, Variant
from pileus.jobs.handler import JobFailed

NO_LLM_COMPRESSOR: Final = (
    "the target vllm needs llm-compressor, which is not installed here: `pip install --pre llmcompressor`"
)


def demand_libraries(variants: Iterable[Variant]) -> None:
    """Raises `JobFailed` where one is missing."""
    needed = dict.fromkeys(library for variant in variants for library in _libraries(variant))
    missing = next((library for library in needed if find_spec(library) is None), None)
    if missing is not None:
        words = f"{missing} is not installed here: `make extras` installs it"
        raise JobFailed(NO_LLM_COMPRESSOR if missing == "llmcompressor" else words, code="not_installed")


def _libraries(variant: Variant) -> Iterator[str]:
    yield "matplotlib"  # for the report
    if variant.to in (Form.PRUNED, Form.DISTILLED):
        yield from ("torch", "transformers")
    if variant.target == Target.VLLM:
        yield "llmcompressor"
    elif variant.target == Target.NATIVE and variant.weights_form != Form.FP16:
        yield "nncf"

"""What bodies of requests to encoders may say together."""

from typing import Any

import pytest
from pydantic import ValidationError

from pileus.api.encoders.classify import ClassifyRequest
from pileus.api.encoders.embeddings import EmbeddingsRequest
from pileus.api.encoders.forms import LongTextsForm
from pileus.api.encoders.rerank import RerankRequest

FORMS: list[tuple[type[LongTextsForm], dict[str, Any]]] = [
    (EmbeddingsRequest, {"input": "a"}),
    (ClassifyRequest, {"input": "a"}),
    (RerankRequest, {"query": "a", "documents": ["b"]}),
]


@pytest.mark.parametrize(("form", "texts"), FORMS)
@pytest.mark.parametrize("way", ["segments", "refuse"])
@pytest.mark.parametrize("length", [-1, 0, 7])
def test_long_texts_are_cut_or_have_a_way_of_their_own_not_both(
    form: type[LongTextsForm], texts: dict[str, Any], way: str, length: int
) -> None:
    body = {"model": "d"} | texts
    with pytest.raises(ValidationError, match=f"`long_texts: {way}` and `truncate_prompt_tokens` exclude each other"):
        form.model_validate(body | {"long_texts": way, "truncate_prompt_tokens": length})
    assert form.model_validate(body | {"long_texts": way}).truncation() is None
    assert form.model_validate(body | {"truncate_prompt_tokens": length}).truncation() == (length or -1)

"""What engines can, decided here only: which runs a model, namely the one that was named, where it can, else that of
the model's kind; and which adapters it takes."""

import sys
from typing import TYPE_CHECKING, Any, Final

from pileus.bootstrap import ENCODERS, ENGINES, FAKE_ENCODER, FAKE_MODEL, FAKE_MODELS, load_driver
from pileus.config.problems import closest
from pileus.config.settings import ANY_ENGINE
from pileus.core.errors import InvalidRequest, OperatorError
from pileus.models.artefact import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pileus.config.settings import Deployment as Wanted
    from pileus.models.catalogue import Catalogue

_OF_KIND: Final = {Kind.GENERATOR: "native", Kind.ENCODER: "encoder"}
_OF_FAKE: Final = {FAKE_MODEL: "fake", FAKE_ENCODER: "fake_encoder"}
_WORDS: Final = {Kind.GENERATOR: "a model that generates text", Kind.ENCODER: "an encoder"}


def kind_of(catalogue: "Catalogue", model: str) -> Kind | None:
    """Also of a model that can be pulled; None for a fake one. Raises `InvalidRequest` where there is none."""
    if model in FAKE_MODELS:
        return None
    try:
        return catalogue.show(model).kind
    except OperatorError as error:
        raise InvalidRequest(error.message, param="model") from None


def with_engine(wanted: "Wanted", kind: Kind | None) -> "Wanted":
    """With its engine named; `kind` is its model's (see `kind_of`). Raises `InvalidRequest` where there is no such
    engine, it cannot run such a model, or a setting is not for such a model."""
    _check_name(wanted)
    if kind is Kind.ADAPTER:
        words = f"{wanted.model} is an adapter: deploy its base, and let `pileus adapters add` serve it beside that"
        raise InvalidRequest(words, param="model")
    own = _OF_FAKE[wanted.model] if kind is None else _OF_KIND[kind]
    if wanted.long_texts != "refuse" and own not in ENCODERS:
        words = f"`long_texts` is for encoders, and {wanted.model} is none: leave it out"
        raise InvalidRequest(words, param="long_texts")
    if wanted.engine == ANY_ENGINE:
        return wanted.model_copy(update={"engine": own})
    needs_files = load_driver(wanted.engine).needs_model
    if (wanted.engine in ENCODERS) != (own in ENCODERS) or (kind is None and needs_files):
        what = "a fake model, for tests" if kind is None else _WORDS[kind]
        words = f"the engine {wanted.engine} cannot run {wanted.model}, which is {what}: name {own}, or no engine"
        raise InvalidRequest(words, param="engine")
    return wanted


def foreseen(wanted: "Wanted", catalogue: "Catalogue") -> "Wanted":
    """As `with_engine`; with a model that is not here yet as it is, and of its engine the name is checked."""
    _check_name(wanted)
    try:
        kind = kind_of(catalogue, wanted.model)
    except InvalidRequest:
        return wanted
    return with_engine(wanted, kind)


def served_rank(engine: str, options: "Mapping[str, Any]") -> int:
    """The largest rank of an adapter that a deployment with these options takes; 0 where it takes none."""
    chosen = load_driver(engine).options.model_validate(options)
    return getattr(chosen, "adapter_rank", sys.maxsize) if getattr(chosen, "adapters", 0) else 0


def _check_name(wanted: "Wanted") -> None:
    if wanted.engine not in (ANY_ENGINE, *ENGINES):
        raise InvalidRequest(f"there is no engine {wanted.engine!r}{closest(wanted.engine, ENGINES)}", param="engine")

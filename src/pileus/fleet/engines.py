"""Which engine runs a model, decided here only: the one that was named, where it can, else that of the model's kind.
And which adapters it takes."""

import sys
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, Final

from pileus.config.problems import closest
from pileus.config.settings import ANY_ENGINE
from pileus.core.errors import InvalidRequest, OperatorError
from pileus.models.artefact import Kind

if TYPE_CHECKING:
    from pileus.config.settings import Deployment as Wanted
    from pileus.core.ports import EngineDriver
    from pileus.models.catalogue import Catalogue

_WORDS: Final = {Kind.GENERATOR: "a model that generates text", Kind.ENCODER: "an encoder"}


class Engines:
    """Those that there are, by name. `encoders` are for models that encode texts, the others for those that generate
    some. `of_kind` and `of_fake` have the engine of each kind of model and of each fake one."""

    def __init__(
        self,
        names: Collection[str],
        driver: "Callable[[str], EngineDriver]",
        *,
        encoders: Collection[str],
        of_kind: Mapping[Kind, str],
        of_fake: Mapping[str, str],
    ) -> None:
        self._names = names
        self._driver = driver
        self._encoders = encoders
        self._of_kind = of_kind
        self._of_fake = of_fake

    def kind_of(self, catalogue: "Catalogue", model: str) -> Kind | None:
        """Also of a model that can be pulled; None for a fake one. Raises `InvalidRequest` where there is none."""
        if model in self._of_fake:
            return None
        try:
            return catalogue.show(model).kind
        except OperatorError as error:
            raise InvalidRequest(error.message, param="model") from None

    def with_engine(self, wanted: "Wanted", kind: Kind | None) -> "Wanted":
        """With its engine named; `kind` is its model's (see `kind_of`). Raises `InvalidRequest` where there is no such
        engine, it cannot run such a model, or a setting is not for such a model."""
        self._check_name(wanted)
        if kind is Kind.ADAPTER:
            words = f"{wanted.model} is an adapter: deploy its base, and let `pileus adapters add` serve it beside that"
            raise InvalidRequest(words, param="model")
        own = self._of_fake[wanted.model] if kind is None else self._of_kind[kind]
        if wanted.long_texts != "refuse" and own not in self._encoders:
            words = f"`long_texts` is for encoders, and {wanted.model} is none: leave it out"
            raise InvalidRequest(words, param="long_texts")
        if wanted.engine == ANY_ENGINE:
            return wanted.model_copy(update={"engine": own})
        needs_files = self._driver(wanted.engine).needs_model
        if (wanted.engine in self._encoders) != (own in self._encoders) or (kind is None and needs_files):
            what = "a fake model, for tests" if kind is None else _WORDS[kind]
            words = f"the engine {wanted.engine} cannot run {wanted.model}, which is {what}: name {own}, or no engine"
            raise InvalidRequest(words, param="engine")
        return wanted

    def foreseen(self, wanted: "Wanted", catalogue: "Catalogue") -> "Wanted":
        """As `with_engine`; with a model that is not here yet as it is, and of its engine the name is checked."""
        self._check_name(wanted)
        try:
            kind = self.kind_of(catalogue, wanted.model)
        except InvalidRequest:
            return wanted
        return self.with_engine(wanted, kind)

    def served_rank(self, engine: str, options: Mapping[str, Any]) -> int:
        """The largest rank of an adapter that a deployment with these options takes; 0 where it takes none."""
        chosen = self._driver(engine).options.model_validate(options)
        return getattr(chosen, "adapter_rank", sys.maxsize) if getattr(chosen, "adapters", 0) else 0

    def _check_name(self, wanted: "Wanted") -> None:
        if wanted.engine not in (ANY_ENGINE, *self._names):
            words = f"there is no engine {wanted.engine!r}{closest(wanted.engine, self._names)}"
            raise InvalidRequest(words, param="engine")

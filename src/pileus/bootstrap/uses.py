"""Where a data folder meets those who still need a model of it. Nothing is written, also while a server owns it."""

from typing import TYPE_CHECKING

from pileus.bootstrap.local import open_catalogue
from pileus.core.errors import OperatorError

if TYPE_CHECKING:
    from pileus.config.load import Loaded


def demand_unused(loaded: "Loaded", name: str) -> None:
    """Raises `OperatorError` where an installed model is still needed, or where that cannot be seen."""
    from pileus.fleet import uses
    from pileus.store.owner import is_owned
    from pileus.store.sqlite import DATABASE_FILE, look

    folder = loaded.settings.data_dir
    try:
        seen = uses.Seen(
            loaded=loaded,
            record=look(folder, uses.read_record) if (folder / DATABASE_FILE).exists() else uses.Record(),
            is_owned=is_owned(folder),
            adapters=open_catalogue(loaded.settings).adapters_of(name),
        )
    except OperatorError as error:
        raise uses.unseen(name, error) from None
    uses.demand_unused(name, seen)

"""Brings a database's schema to the version of this program, whole or not at all.

All steps run in one transaction, which the caller's connection opens with `BEGIN IMMEDIATE`: killed at any point, the
database is as it was. Alembic takes a third of a second to import, so it is loaded only where there is work to do.
"""

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from pileus.core.errors import OperatorError
from pileus.store.schema import HEAD

MIGRATIONS = Path(__file__).parent / "migrations"


def migrate(connection: Connection) -> bool:
    """Migrate if need be; true if something was done. Raises `OperatorError` for a database from a newer Pileus."""
    with connection.begin():
        version = current_version(connection)
        if version == HEAD:
            return False
        _upgrade(connection, version)
    return True


def current_version(connection: Connection) -> str | None:
    """The version that the database is at; `None` for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found


def is_known(version: str) -> bool:
    """Whether there is a migration of that name, so that a database at it can be brought up to date."""
    return version.isalnum() and any((MIGRATIONS / "versions").glob(f"{version}_*.py"))


def _upgrade(connection: Connection, version: str | None) -> None:
    if version is not None and not is_known(version):
        raise OperatorError(
            f"the data folder was written by another Pileus (schema {version}, this one knows {HEAD}); "
            "run that version, or use another folder with --data"
        )

    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")

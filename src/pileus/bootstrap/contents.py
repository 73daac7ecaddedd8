"""Where contents are kept: in the data folder, or where the settings say."""

import os
from typing import TYPE_CHECKING

from pileus.core.errors import ConfigError

if TYPE_CHECKING:
    from pileus.config.settings import Settings
    from pileus.store.blobs import Blobs

BLOBS_FOLDER = "blobs"


def open_blobs(settings: "Settings") -> "Blobs":
    """The place of contents. Raises `ConfigError` for an address that is none."""
    url = settings.files.blobs
    if url is None:
        from pileus.store.local_blobs import LocalBlobs

        return LocalBlobs(settings.data_dir / BLOBS_FOLDER)
    if not url.startswith("s3://"):
        raise ConfigError(f"files.blobs is {url!r}; give an address such as s3://bucket/prefix, or nothing")
    from pileus.store.s3_blobs import S3Blobs

    return S3Blobs(url, endpoint=os.environ.get("AWS_ENDPOINT_URL", ""))

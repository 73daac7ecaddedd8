"""Where contents are kept: in the data folder, or where the settings say."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pileus.config.settings import Settings
    from pileus.store.blobs import Blobs

BLOBS_FOLDER = "blobs"


def open_blobs(settings: "Settings") -> "Blobs":
    """The place of contents. Nothing is asked of it yet, so it may be away at a start."""
    if settings.files.blobs is None:
        from pileus.store.local_blobs import LocalBlobs

        return LocalBlobs(settings.data_dir / BLOBS_FOLDER)
    from pileus.core.clock import SystemClock
    from pileus.store.claimed_blobs import ClaimedBlobs
    from pileus.store.s3_blobs import S3Blobs

    place = S3Blobs(settings.files.blobs, endpoint=os.environ.get("AWS_ENDPOINT_URL", ""))
    return ClaimedBlobs(place, settings.data_dir, SystemClock())

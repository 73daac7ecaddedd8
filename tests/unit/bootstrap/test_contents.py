"""Where contents are kept, by the settings."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from pileus.bootstrap.contents import open_blobs
from pileus.config.load import load_settings
from pileus.config.settings import Files, Settings
from pileus.core.errors import ConfigError
from pileus.store.claimed_blobs import ClaimedBlobs
from pileus.store.local_blobs import LocalBlobs


async def test_contents_are_in_the_data_folder_unless_the_settings_say_otherwise(tmp_path: Path) -> None:
    blobs = open_blobs(Settings(data_dir=tmp_path))
    assert isinstance(blobs, LocalBlobs)
    draft = await blobs.create("files/a")
    await draft.commit()
    assert (tmp_path / "blobs" / "files" / "a").exists()


@pytest.mark.parametrize("url", ["s3://bucket", "s3://bucket/", "s3://my.bucket-1/some/prefix", "s3://b-1/a_b/c.d/"])
def test_an_address_of_a_bucket_is_s3(tmp_path: Path, url: str) -> None:
    assert isinstance(open_blobs(Settings(data_dir=tmp_path, files=Files(blobs=url))), ClaimedBlobs)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "bucket",
        "http://host/bucket",
        "file:///etc",
        "s3://",
        "s3:///x",
        "s3://B_",
        "s3://bucket/../x",
        "s3://b b/x",
    ],
)
def test_what_is_no_address_of_a_bucket_is_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        Files(blobs=url)
    with pytest.raises(ConfigError, match="an address such as s3://bucket/prefix"):
        load_settings(None, {"PILEUS_FILES__BLOBS": url or "-"}, {})

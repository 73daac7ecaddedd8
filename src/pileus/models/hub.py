"""Download from a hub over HTTPS: streamed to a file, and gone on with where an earlier try broke off."""

import os
import time
from pathlib import Path
from typing import BinaryIO

import httpx

from pileus.models.progress import Progress
from pileus.models.source import SourceFailed

_TRIES = 3
_TIMEOUT = httpx.Timeout(30.0, connect=5.0)
TOKEN_VARIABLE = "HF_TOKEN"  # noqa: S105  # where it is, as the hub's own tools have it


def credentials() -> dict[str, str]:
    """Headers that say who asks, for repositories that not everybody may read. Where the hub sends a request on to
    another host, httpx leaves them out."""
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    return {"authorization": f"Bearer {token}"} if token else {}


def download(url: str, target: Path, size_bytes: int, progress: Progress) -> None:
    """Fetch `url` to `target`, which then has exactly `size_bytes`. Whoever calls checks its hash.

    A broken connection is tried again from where it broke, a few times. What has come stays for the next call.
    """
    headers = {"accept-encoding": "identity"} | credentials()
    with httpx.Client(timeout=_TIMEOUT, follow_redirects=True, headers=headers) as client:
        for attempt in range(1, _TRIES + 1):
            try:
                _continue(client, url, target, size_bytes, progress)
                return
            except httpx.TimeoutException as error:
                note = f"no answer ({type(error).__name__})"
            except httpx.TransportError as error:
                note = f"{_short(error)}"
            except httpx.InvalidURL as error:
                raise SourceFailed(f"{url} is not a valid address ({error})") from error
            have = target.stat().st_size if target.exists() else 0
            if have == 0 or attempt == _TRIES:
                break
            time.sleep(0.2 * attempt)  # a server that broke off is seldom back at once
    raise SourceFailed(f"broke off at {have} of {size_bytes} bytes: {note}" if have else note)


def _continue(client: httpx.Client, url: str, target: Path, size_bytes: int, progress: Progress) -> None:
    with target.open("ab") as file:
        have = file.tell()
        if have > size_bytes:
            file.truncate(have := 0)
        if have == size_bytes:
            return
        headers = {"range": f"bytes={have}-"} if have else {}
        with client.stream("GET", url, headers=headers) as response:
            if response.status_code == httpx.codes.OK:
                file.truncate(0)  # the server does not know ranges: from the start
            elif response.status_code != httpx.codes.PARTIAL_CONTENT:
                raise SourceFailed(f"{url} answers {response.status_code}")
            _receive(response, file, size_bytes, progress)


def _receive(response: httpx.Response, file: BinaryIO, size_bytes: int, progress: Progress) -> None:
    have = file.seek(0, 2)
    progress("downloading", have, size_bytes)
    for chunk in response.iter_raw():  # as it comes, so that nothing of it is lost if the connection breaks
        have += len(chunk)
        if have > size_bytes:
            file.truncate(0)
            raise SourceFailed("the file is larger than the catalogue says: it is not that model")
        file.write(chunk)
        progress("downloading", have, size_bytes)
    if have < size_bytes:
        raise httpx.RemoteProtocolError("the connection ended early")


def _short(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]

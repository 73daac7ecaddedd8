"""Puts the pinned uv into .venv where this Python comes without pip. Standard library only: nothing else is here yet.

The wheel is taken from the package index of `PIP_INDEX_URL` (PyPI where it is not set), and its SHA-256 must be one of
those in requirements/uv.txt.
"""

import hashlib
import io
import os
import platform
import re
import sys
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INDEX = "https://pypi.org/simple"


def main() -> None:
    target = Path(sys.argv[1])
    pinned = (ROOT / "requirements" / "uv.txt").read_text()
    version = re.search(r"^uv==(\S+)", pinned, re.MULTILINE)
    if version is None:
        sys.exit("requirements/uv.txt pins no uv")
    hashes = set(re.findall(r"--hash=sha256:([0-9a-f]{64})", pinned))
    page = f"{os.environ.get('PIP_INDEX_URL', INDEX).rstrip('/')}/uv/"
    wheel = read(find_wheel(page, version[1]))
    if hashlib.sha256(wheel).hexdigest() not in hashes:
        sys.exit(f"the uv {version[1]} of {page} is not the one that is pinned")
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        [member] = [name for name in archive.namelist() if name.endswith(".data/scripts/uv")]
        target.write_bytes(archive.read(member))
    target.chmod(0o755)


def find_wheel(page: str, version: str) -> str:
    """The address of the wheel for this machine."""
    libc = "manylinux" if platform.libc_ver()[0] == "glibc" else "musllinux"
    name = re.compile(rf"uv-{re.escape(version)}-py3-none-{libc}[a-z0-9_.]*_{platform.machine()}\S*\.whl")
    for address in re.findall(r'href="([^"]+)"', read(page).decode()):
        if name.fullmatch(urllib.parse.unquote(urllib.parse.urlsplit(address).path.rsplit("/", 1)[-1])):
            return urllib.parse.urljoin(page, address)
    sys.exit(f"{page} has no uv {version} for {libc} on {platform.machine()}")


def read(address: str) -> bytes:
    try:
        with urllib.request.urlopen(address, timeout=60) as answer:  # noqa: S310  # the index that the user chose
            content: bytes = answer.read()
    except OSError as error:
        sys.exit(f"{address} cannot be read: {error}")
    return content


if __name__ == "__main__":
    main()

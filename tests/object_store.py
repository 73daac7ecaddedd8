"""A real S3 service for tests: SeaweedFS, on free ports of loopback, in a folder of its own."""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

BUCKET = "contents"
_START_LIMIT_S = 60.0
_SERVICES = ("master", "volume", "filer", "s3")


@dataclass(frozen=True)
class ObjectStore:
    """A service that is ready and has one bucket."""

    endpoint: str
    url: str  # of the bucket, as `files.blobs` has it
    process: subprocess.Popen[bytes]

    @property
    def environment(self) -> Mapping[str, str]:
        """What whoever uses it needs to have in its environment."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "tests",
            "AWS_SECRET_ACCESS_KEY": "tests-secret",
            "AWS_REGION": "us-east-1",
        }

    def unfinished_uploads(self) -> str:
        """What the service says of uploads in parts that nobody finished."""
        answer = httpx.get(f"{self.endpoint}/{BUCKET}?uploads", trust_env=False)
        answer.raise_for_status()
        return answer.text


def weed() -> str | None:
    """The service's program, if it is installed."""
    return shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")


@contextmanager
def object_store(folder: Path) -> Iterator[ObjectStore]:
    """Started, with a bucket; ended by its process id."""
    program = weed()
    assert program is not None
    ports = _free_ports(2 * len(_SERVICES))
    numbers = iter(ports)
    options = [
        option
        for name in _SERVICES
        for option in (f"-{name}.port={next(numbers)}", f"-{name}.port.grpc={next(numbers)}")
    ]
    endpoint = f"http://127.0.0.1:{ports[6]}"
    command = [
        program,
        "mini",
        f"-dir={folder}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-webdav=false",
        "-admin.ui=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-master.telemetry=false",
        f"-bucket={BUCKET}",
        *options,
    ]
    with (folder / "weed.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        _wait(endpoint, process, folder / "weed.log")
        yield ObjectStore(endpoint, f"s3://{BUCKET}", process)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


def _wait(endpoint: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until it stores and gives back."""
    deadline = time.monotonic() + _START_LIMIT_S
    with httpx.Client(base_url=endpoint, trust_env=False) as client:
        while time.monotonic() < deadline and process.poll() is None:
            with suppress(httpx.TransportError):
                if client.put(f"/{BUCKET}/probe", content=b"x").is_success:
                    client.delete(f"/{BUCKET}/probe")
                    return
            time.sleep(0.1)
    raise AssertionError(f"the object store did not start:\n{log.read_text(errors='replace')[-4000:]}")

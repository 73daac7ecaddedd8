"""The `openai` client's own tests, unchanged, against a running server.

They are fetched with the source of the installed version. `openai_stand_ins` puts real objects in place of the ids that
they make up.
"""

import importlib.metadata
import os
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from acceptance.files_server import files_server
from acceptance.process import Server, environment

VERSION = importlib.metadata.version("openai")
TESTS = Path(__file__).parents[1]
# Each with how many of its tests there are at least.
FILES = {
    "api_resources/test_files.py": 90,
    "api_resources/test_uploads.py": 50,
    "api_resources/uploads/test_parts.py": 15,
    "api_resources/test_batches.py": 50,
}
LIMIT_S = 240


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Their source distribution, unpacked."""
    folder = tmp_path_factory.mktemp("openai")
    fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-build-isolation"]
    fetched = subprocess.run(
        [*fetch, "--no-binary", ":all:", "--dest", str(folder), f"openai=={VERSION}"],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    if fetched.returncode:
        pytest.skip(f"the source of openai {VERSION} cannot be had: {fetched.stderr.strip()[-300:]}")
    [archive] = folder.glob("openai-*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return folder / f"openai-{VERSION}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with files_server(tmp_path_factory.mktemp("data")) as found:
        yield found


@pytest.mark.parametrize("file", FILES)
def test_the_clients_own_tests_pass(file: str, source: Path, server: Server, tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "acceptance.openai_stand_ins", "-p", "no:cacheprovider"]
    if find_spec("aiohttp") is None:  # another transport, which the client does not need
        command += ["-k", "not aiohttp"]
    done = subprocess.run(
        [*command, "-o", "addopts=", f"--junitxml={report}", f"tests/{file}"],
        cwd=source,
        env=environment(
            PYTHONPATH=str(TESTS),
            TEST_API_BASE_URL=f"{server.base_url}/v1",
            PILEUS_API_KEY=server.admin_key,
            NO_PROXY="127.0.0.1",
            PATH=os.environ["PATH"],
        ),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    cases = ET.parse(report).getroot().findall(".//testcase")
    passed = [case.get("name") for case in cases if len(case) == 0]
    print(f"{file}: {len(passed)} of {len(cases)} pass")
    assert len(passed) >= FILES[file]
    skipped = [case.get("name", "") for case in cases if case.find("skipped") is not None]
    assert [name for name in skipped if "aiohttp" not in name] == []  # those they skip themselves

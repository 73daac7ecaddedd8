"""The fault report: a table at the end of the run, one row for each test that carries a fault's number."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from faults.power import build

_KEY = "fault"
_MEASURED = "measured"


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Adds a figure to the test's row."""
    return lambda figure: request.node.user_properties.append((_MEASURED, figure))


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See `power`."""
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    return build(tmp_path_factory.mktemp("shim"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a file system here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.fixture(autouse=True)
def _fault_row(request: pytest.FixtureRequest) -> None:
    """`@pytest.mark.fault(number, how it is injected, what must then be true)`"""
    if mark := request.node.get_closest_marker("fault"):
        request.node.user_properties.append((_KEY, tuple(map(str, mark.args))))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    rows = []
    for outcome, verdict in (("passed", "holds"), ("failed", "BROKEN")):
        for report in terminalreporter.getreports(outcome):
            found = dict(report.user_properties)
            if report.when == "call" and _KEY in found:
                figures = "; ".join(figure for name, figure in report.user_properties if name == _MEASURED)
                rows.append((*found[_KEY], figures or "-", verdict))
    if rows:
        terminalreporter.section("fault report")
        rows.sort(key=lambda row: int(row[0].split(",")[0]) if row[0][0].isdigit() else 99)
        for number, injected, expected, figures, verdict in rows:
            terminalreporter.line(f"{number:>7}  {verdict}: {expected}")
            terminalreporter.line(f"{'':9}injected: {injected}")
            terminalreporter.line(f"{'':9}measured: {figures}")

"""What a process says it has had of memory is its own."""

import subprocess
import sys

import pytest

_TELL = "from pileus.bootstrap.memory import peak_bytes; {}; print(peak_bytes())"


def told(before: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", _TELL.format(before)], stdout=subprocess.PIPE, check=True, close_fds=False
    )
    return int(done.stdout)


def test_the_peak_is_counted_also_when_it_is_over() -> None:
    assert told("len(b'x' * (300 << 20))") > 300 << 20


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the kernel's own figure is all there is")
def test_a_parents_memory_is_not_counted() -> None:
    ballast = b"x" * (300 << 20)
    assert told("pass") < 200 << 20
    del ballast

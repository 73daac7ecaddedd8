import ctypes
import subprocess
import sys

import pytest

_FREED = """
import ctypes, resource
from pathlib import Path
{before}
libc, size = ctypes.CDLL(None), 64 << 20
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
def resident(): return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
block = libc.malloc(ctypes.c_size_t(size))
ctypes.memset(block, 1, size)
full = resident()
libc.free(block)
print(full - resident())
"""
pytestmark = pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="this C library has no mallopt")


def _given_back(before: str) -> int:
    """Bytes of 64 MiB that a new process gives back to the kernel when it frees them."""
    code = _FREED.format(before=before)
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout)


def test_what_is_freed_is_kept_for_the_next_step() -> None:
    assert _given_back("from pileus.jobs.memory import keep_freed_memory; assert keep_freed_memory()") < 1 << 20
    assert _given_back("") > 60 << 20


def test_a_training_keeps_it() -> None:
    pytest.importorskip("torch", reason="the `train` extra is not installed: `make extras`")
    settle = "from pileus.training.plan import Plan; from pileus.training.ranks import settle; settle(Plan())"
    assert _given_back(settle) < 1 << 20

"""Describes the machine, without its name."""

import os
import platform
from pathlib import Path

from benchmarks.results import Machine

_OF_INTEREST = (
    "avx2",
    "avx512f",
    "avx_vnni",
    "avx512_vnni",
    "avx512_bf16",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "bf16",
    "i8mm",
)


def describe() -> Machine:
    processor, flags = "unknown", set[str]()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            processor = value.strip()
        elif name.strip() in ("flags", "Features"):
            flags.update(value.split())
    return Machine(
        processor=processor,
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        system=f"{platform.system()} {platform.release().split('-')[0]}, Python {platform.python_version()}",
        instructions=tuple(name for name in _OF_INTEREST if name in flags),
    )

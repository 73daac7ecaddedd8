"""Preparing data: how fast text goes through, in how much memory, and which near duplicates are found.

Text is made up on the way (`made_texts`), and never kept. Each figure is of processes of their own with one thread.
"""

import os
import random
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, process_time
from typing import TypeVar

import numpy as np

from benchmarks.answers import BadAnswer
from benchmarks.figures import Figures
from benchmarks.made_texts import CHINESE_EVERY, document, documents, edited
from benchmarks.results import Target
from benchmarks.run import Run
from pileus import __version__
from pileus.bootstrap.memory import peak_bytes
from pileus.data import duplicates
from pileus.data.cleaning import Account, Cleaner
from pileus.data.contamination import Contamination, runs_of
from pileus.data.duplicates import EXACT, Places, each_candidate, exact_duplicates, near_duplicates
from pileus.data.heap import Heap
from pileus.data.minhash import BANDS, jaccard
from pileus.data.records import Document
from pileus.data.repair import decode
from pileus.data.spec import DataSpec
from pileus.data.words import words_of

SUITE = "data"
TARGET = "pileus-data"
SPEED, MEMORY, NEAR = "data-speed", "data-memory", "data-near"
WORKLOADS = {
    SPEED: "plain text, three quarters English-like and one Chinese: repair, filters and exact deduplication",
    MEMORY: "the same and signatures, over generated text, a process for each core; then duplicates over all of it",
    NEAR: "pairs of documents with a known similarity: near duplicates at a Jaccard similarity of 0.8",
}
_MB = 1_000_000
_SPEED_MB, _SPEED_QUICK_MB = 64, 8
_MEMORY_MB, _MEMORY_QUICK_MB = 5_000, 32
_PAIRS, _QUICK_PAIRS = 4_000, 400
_PIECE_BYTES = 32 << 20
_DOCUMENTS_BETWEEN = 1_000_000  # the numbers of two pieces' first documents
_DUPLICATE_BYTES = 512 << 20
_SIMILARITY, _NEAR_IT = 0.8, 0.85  # pairs just above what is asked are the hard ones
_SHARES = (0.0, 0.06)  # of words that are written anew: similarities from 1 down to about 0.5


async def measure(run: Run, chosen: Sequence[str], *, quick: bool) -> None:
    run.results.titles |= WORKLOADS
    run.take_part(Target(TARGET, "`pileus data prepare`", __version__, "no model", "default recipe"))
    work = {
        SPEED: (speed, _SPEED_QUICK_MB if quick else _SPEED_MB),
        MEMORY: (memory, _MEMORY_QUICK_MB if quick else _MEMORY_MB),
        NEAR: (near, _QUICK_PAIRS if quick else _PAIRS),
    }
    names = [name for name in work if name in chosen]
    with run.progress(SUITE, run.rounds * len(names)) as step:
        for number in range(1, run.rounds + 1):
            for name in names:
                step(f"{WORKLOADS[name]}, round {number}")
                if name == MEMORY and number > 1:
                    continue  # memory does not vary as time does, and it takes long
                measured, size = work[name]
                figures = memory(size, number) if name == MEMORY else apart(measured, size, number)
                run.keep(SUITE, name, TARGET, number, figures)


Result = TypeVar("Result")


def apart(measured: Callable[..., Result], *given: object) -> Result:
    """In a process of its own, so that its memory and its time are its own."""
    with _processes(1) as one:
        return one.submit(measured, *given).result()


def _processes(count: int) -> ProcessPoolExecutor:
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return ProcessPoolExecutor(count, get_context("spawn"))


def speed(megabytes: int, number: int) -> Figures:
    """Processor time of the steps alone: from bytes to documents that are kept, all rules on."""
    cleaner = Cleaner(DataSpec(inputs=("x",), out="y", personal=False, near=False), Contamination(runs_of(())))
    list(cleaner.clean([Document(document(n), "") for n in range(8)], Account()))  # tables are made
    contents = list(documents(megabytes * _MB, number * 10_000_000))
    account = Account()
    begun_s = process_time()
    kept = sum(1 for _ in cleaner.clean((Document(decode(content)[0], "") for content in contents), account))
    took_s = process_time() - begun_s
    size = sum(map(len, contents))
    return {
        "mb_per_s": size / took_s / _MB,
        "documents": float(len(contents)),
        "kept_percent": 100 * kept / len(contents),
        "exact_duplicates": float(account.left_out.get("exact_duplicate", 0)),
    }


def memory(megabytes: int, number: int) -> Figures:
    """The greatest memory of the processes that share the pieces and clean them, and of the one that then finds
    duplicates over all of them."""
    count = max(megabytes * _MB // _PIECE_BYTES, 1)
    workers = len(os.sched_getaffinity(0))
    with TemporaryDirectory(prefix="pileus-bench-") as folder:
        begun_s = monotonic()
        with _processes(workers) as pool:
            fillings = [pool.submit(fill, Path(folder), range(first, count, workers)) for first in range(workers)]
            peaks = [filling.result() for filling in fillings]
        cleaned_s = monotonic() - begun_s
        figures = apart(deduplicate, Path(folder))
    input_mb = count * _PIECE_BYTES / _MB
    figures["peak_mib"] = max(*peaks, figures["peak_mib"])
    return {"input_mb": input_mb, "processes": float(workers), "clean_mb_per_s": input_mb / cleaned_s, **figures}


def fill(folder: Path, pieces: Iterable[int]) -> float:
    """Clean text for these pieces, and keep what is known of each document, but not the texts. Gives the greatest
    memory of this process, MiB."""
    spec = DataSpec(inputs=("x",), out="y")
    cleaner = Cleaner(spec, Contamination(runs_of(())))
    for piece in pieces:
        account = Account()
        records = (Document(decode(each)[0], "") for each in documents(_PIECE_BYTES, piece * _DOCUMENTS_BETWEEN))
        heap = Heap(folder, piece, near=True)
        heap.write(cleaner.clean(records, account), account)
        heap.forget_texts()
    return _peak_mib()


def _peak_mib() -> float:
    return peak_bytes() / 2**20


def deduplicate(folder: Path) -> Figures:
    """Over all that lies there."""
    count = len(list(folder.glob("*.json")))
    places = Places([Heap(folder, piece, near=True) for piece in range(count)])
    fates = np.zeros(len(places), np.uint8)
    begun_s = monotonic()
    exact_duplicates(places, fates, _DUPLICATE_BYTES)
    candidates = sum(1 for band in range(BANDS) for _ in each_candidate(places, fates, band, _DUPLICATE_BYTES))
    return {
        "documents": float(len(places)),
        "exact_duplicates": float(np.count_nonzero(fates == EXACT)),
        "candidates": float(candidates),
        "duplicates_s": monotonic() - begun_s,
        "peak_mib": _peak_mib(),
    }


def near(pairs: int, number: int) -> Figures:
    """Pairs whose similarity is computed, and what the search over all of them together finds."""
    chosen = random.Random(number)
    firsts = [document(CHINESE_EVERY * (pairs * number + place) + 1) for place in range(pairs)]
    seconds = [edited(text, chosen.uniform(*_SHARES), chosen) for text in firsts]
    similarities = np.array(
        [jaccard(words_of(one), words_of(other)) for one, other in zip(firsts, seconds, strict=True)]
    )
    with TemporaryDirectory(prefix="pileus-bench-") as folder:
        account, heap = Account(), Heap(Path(folder), 0, near=True)
        spec = DataSpec(inputs=("x",), out="y", rules=None, exact=False, personal=False)
        records = (Document(text, "") for text in (*firsts, *seconds))
        heap.write(Cleaner(spec, Contamination(runs_of(()))).clean(records, account), account)
        places = Places([heap])
        fates = np.zeros(len(places), np.uint8)
        near_duplicates(places, fates, _SIMILARITY, _DUPLICATE_BYTES, lambda done, total: None)
    if len(places) != 2 * pairs:
        raise BadAnswer(f"{2 * pairs - len(places)} documents of {2 * pairs} are lost")
    found = fates[pairs:] == duplicates.NEAR
    wanted = similarities >= _SIMILARITY
    hard = wanted & (similarities < _NEAR_IT)
    return {
        "pairs": float(pairs),
        "similar_pairs": float(np.count_nonzero(wanted)),
        "recall_percent": 100 * float(np.mean(found[wanted])),
        "recall_at_percent": 100 * float(np.mean(found[hard])),
        "precision_percent": 100 * float(np.mean(wanted[found])),
        "wrong_firsts": float(np.count_nonzero(fates[:pairs])),
    }

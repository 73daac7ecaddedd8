"""Embeddings of many short texts: ours over HTTP, as anybody asks for them, to Sentence Transformers in-process.

Both have the same weights and all cores, and take turns; each at the batch size that was best for it in a trial. What
comes out is compared vector by vector.
"""

import asyncio
import json
import random
from base64 import b64decode
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from benchmarks.engines import Setting
from benchmarks.peers import SENTENCE_TRANSFORMERS, environment
from benchmarks.pileus_server import Server, make_home, serve
from benchmarks.processes import Process, StartError
from benchmarks.results import Target
from benchmarks.run import Run
from pileus import __version__

SUITE = "encoders"
WORKLOAD = "short-texts"
THEIRS, FLOAT32, INT8 = "sentence-transformers", "pileus-f32", "pileus-int8"
MODEL = "all-minilm-l6-v2"
_TEXTS, _QUICK_TEXTS, _TRIAL_TEXTS = 10_000, 1_000, 1_000
_THEIR_BATCHES, _OUR_BATCHES = (16, 32, 64, 128, 256), (128, 512, 2048)
_TOGETHER = 2  # requests of ours at the same time, so that the engine need not wait for the next
_TEXT = (
    "time year people way day man thing woman life child world school state family student group country problem hand "
    "part place case week company system program question work government number night point home water room mother "
    "area money story fact month lot right study book eye job word business issue side kind head house service friend "
    "father power hour game line end member law car city community name president team minute idea body information"
)
_CONFIG = "".join(
    f"""
[[deployment]]
name = "{name}"
model = "{MODEL}"
engine = "encoder"
options = {options}
"""
    for name, options in ((FLOAT32, "{}"), (INT8, '{ weights = "int8" }'))
)

Vectors = NDArray[np.float32]


def short_texts(count: int) -> list[str]:
    """Of 4 to 24 words each, the same on every machine."""
    draw = random.Random(5)  # texts, not secrets
    words = _TEXT.split()
    return [" ".join(draw.choices(words, k=draw.randint(4, 24))) for _ in range(count)]


def cosine_differences(ours: Vectors, theirs: Vectors) -> Vectors:
    """1 - cosine, row by row, in float64: for vectors of length 1 up to their rounding."""
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    found: Vectors = 1 - (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return found


async def measure(run: Run, setting: Setting, *, quick: bool) -> None:
    """In turns, round by round; who waits is paused."""
    texts = short_texts(_QUICK_TEXTS if quick else _TEXTS)
    run.results.titles[WORKLOAD] = f"{len(texts):,} texts of 4 to 24 words, all-MiniLM-L6-v2"
    theirs, folder = _start_theirs(run, setting)
    server = await serve(
        setting.family, make_home(setting.family, setting.cache, _CONFIG), setting.logs / "encoders.log"
    )
    trial = texts[:_TRIAL_TEXTS]
    server.process.pause()
    their_batch = await _best(_THEIR_BATCHES, lambda batch: _theirs(theirs, trial, batch, None))
    theirs.pause()
    server.process.resume()
    batches = {
        name: await _best(_OUR_BATCHES, lambda batch, name=name: _ours(server, name, trial, batch))  # type: ignore[misc]
        for name in (FLOAT32, INT8)
    }
    server.process.pause()
    _take_part(run, setting, their_batch, batches)
    with run.progress(SUITE, run.rounds * 3) as step:
        for number in range(1, run.rounds + 1):
            step(f"round {number}, {THEIRS}")
            theirs.resume()
            seconds, expected = await _theirs(theirs, texts, their_batch, folder / "vectors")
            theirs.pause()
            run.keep(SUITE, WORKLOAD, THEIRS, number, {"texts_per_s": len(texts) / seconds})
            server.process.resume()
            for name, batch in batches.items():
                step(f"round {number}, {name}")
                seconds, found = await _ours(server, name, texts, batch)
                off = cosine_differences(found, expected)
                figures = {"texts_per_s": len(texts) / seconds, "off_mean": off.mean(), "off_most": off.max()}
                run.keep(SUITE, WORKLOAD, name, number, {name: float(value) for name, value in figures.items()})
            server.process.pause()


def _start_theirs(run: Run, setting: Setting) -> tuple[Process, Path]:
    """The process, and a folder for its vectors. Both serve from the very same weights."""
    from pileus.config.settings import Settings
    from pileus.models.catalogue import Catalogue

    catalogue = Catalogue(setting.cache / "models", Settings().models)
    catalogue.ensure(MODEL)
    master = catalogue.master(MODEL)
    if master is None:
        raise StartError(f"the folder that {MODEL} was made of is gone: remove the model and try again")
    peer = environment(SENTENCE_TRANSFORMERS, setting.cache, run.say)
    script = Path(__file__).parents[1] / "sentences.py"
    command = [str(peer.python), str(script), str(master), str(setting.threads)]
    return setting.family.start(command, setting.logs / "sentences.log", pipes=True), setting.logs


async def _best(batches: Sequence[int], ask: Any) -> int:
    """The batch size that was quickest, after one call that does not count."""
    await ask(batches[0])
    seconds = {batch: (await ask(batch))[0] for batch in batches}
    return min(seconds, key=seconds.__getitem__)


async def _theirs(process: Process, texts: Sequence[str], batch: int, out: Path | None) -> tuple[float, Vectors]:
    order = {"texts": list(texts), "batch": batch, "out": str(out) if out else ""}

    def ask() -> float:
        orders, answers = process.pipes
        process.check()
        orders.write(json.dumps(order).encode() + b"\n")
        orders.flush()
        line = answers.readline()
        process.check()
        return float(line)

    seconds = await asyncio.to_thread(ask)
    found = np.fromfile(out, "<f4").reshape(len(texts), -1) if out else np.empty((0, 0), np.float32)
    return seconds, found


async def _ours(server: Server, name: str, texts: Sequence[str], batch: int) -> tuple[float, Vectors]:
    """As base64, which OpenAI's client asks for too."""
    parts = [texts[at : at + batch] for at in range(0, len(texts), batch)]
    bodies = [json.dumps({"model": name, "input": part, "encoding_format": "base64"}).encode() for part in parts]
    headers = {"authorization": f"Bearer {server.home.key}", "content-type": "application/json"}
    address = f"http://127.0.0.1:{server.home.port}/v1/embeddings"
    slots = asyncio.Semaphore(_TOGETHER)
    async with httpx.AsyncClient(headers=headers, timeout=600, trust_env=False) as client:

        async def ask(body: bytes) -> httpx.Response:
            async with slots:
                return await client.post(address, content=body)

        began = perf_counter()
        answers = await asyncio.gather(*map(ask, bodies))
        rows = [_rows(answer) for answer in answers]
        seconds = perf_counter() - began
    return seconds, np.concatenate(rows)


def _rows(answer: httpx.Response) -> Vectors:
    if answer.status_code != httpx.codes.OK:
        raise StartError(f"embeddings were refused: {answer.text[:300]}")
    data = answer.json()["data"]
    return np.array([np.frombuffer(b64decode(each["embedding"]), "<f4") for each in data])


def _take_part(run: Run, setting: Setting, their_batch: int, batches: dict[str, int]) -> None:
    installed = environment(SENTENCE_TRANSFORMERS, setting.cache, run.say)
    version = installed.versions("sentence-transformers", "torch")
    settings = f"batch size {their_batch}, the best of {_THEIR_BATCHES}; {setting.threads} threads"
    run.take_part(Target(THEIRS, "Sentence Transformers, in-process", version, "float32", settings))
    for name, precision in ((FLOAT32, "float32"), (INT8, "weights int8, activations int8 in groups of 128")):
        settings = f"{batches[name]} texts a request, the best of {_OUR_BATCHES}; {_TOGETHER} requests at a time"
        run.take_part(Target(name, f"Pileus over HTTP, {precision.split(',')[0]}", __version__, precision, settings))

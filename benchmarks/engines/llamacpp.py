"""llama.cpp's own server, from the prebuilt package xllamacpp."""

from pathlib import Path

from benchmarks.client import Endpoint
from benchmarks.engines import Engine, Setting
from benchmarks.engines.http import HttpEngine
from benchmarks.peers import LLAMACPP, environment
from benchmarks.processes import free_port
from benchmarks.results import Target
from benchmarks.weights import q8_file

# Runs in the peer's environment. The C++ server listens as soon as it is made.
_SERVE = """
import signal, sys, xllamacpp
path, port, threads, sequences, context = sys.argv[1], *map(int, sys.argv[2:])
params = xllamacpp.CommonParams()
params.model.path, params.port, params.n_gpu_layers = path, port, 0
params.n_parallel, params.n_ctx = sequences, sequences * context
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
server = xllamacpp.Server(params)
print(xllamacpp.get_system_info(), flush=True)
signal.pause()
"""


async def open_llamacpp(setting: Setting, gguf: Path) -> Engine:
    peer = environment(LLAMACPP, setting.cache, setting.say)
    model = q8_file(gguf, setting.cache, setting.say)
    port = free_port()
    setting.say("starting llama.cpp")
    process = setting.family.start(
        [str(peer.python), "-c", _SERVE, *map(str, (model, port, setting.threads, setting.sequences, setting.context))],
        setting.logs / "llamacpp.log",
    )
    target = Target(
        "llamacpp",
        "llama.cpp's server, over HTTP",
        peer.versions("xllamacpp"),
        "weights Q8_0, arithmetic int8 and f32, KV cache f16",
        f"{setting.sequences} slots, {setting.threads} threads, else its defaults; "
        "the package is built for any AVX2 processor, without AVX-512 and AMX",
    )
    engine = HttpEngine(target, process, Endpoint(port, "/v1/completions"), "model")
    await engine.wait_until_ready(60)
    return engine

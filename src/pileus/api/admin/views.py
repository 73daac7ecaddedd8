"""Deployments and replicas as administration shows them."""

from msgspec import Struct

from pileus.api.services import Services
from pileus.core.records import LongTexts
from pileus.fleet.acts import Act
from pileus.fleet.records import DeploymentStatus, ReplicaStatus
from pileus.scheduling.bounds import Standing
from pileus.scheduling.scaling import Policy


class Replica(Struct, frozen=True):
    """One replica process; the figures are of its present life."""

    id: str
    state: str
    pid: int | None
    epoch: int
    restarts: int
    last_error: str
    running: int
    waiting: int
    slots: int
    kv_blocks: int
    kv_blocks_used: int
    kv_blocks_cached: int
    tokens_per_s: float
    prompt_tokens: int
    generated_tokens: int
    prefix_query_tokens: int
    prefix_hit_tokens: int
    step_ms: float
    step_s: float  # in engine steps since its start
    infer_s: float  # of which in the model's kernels


class Scaling(Struct, frozen=True):
    """How it scales by itself."""

    min_replicas: int
    max_replicas: int
    idle_s: float
    target_queue_s: float
    target_ttft_s: float | None


class Deployment(Struct, frozen=True, kw_only=True):
    """One deployment, what waits in front of it, and what is being done to it."""

    name: str
    model: str
    engine: str
    aliases: list[str]
    long_texts: LongTexts  # of an encoder, where a request does not say it
    in_settings: bool  # the settings name it: the next start begins with what they say
    desired: int  # replicas
    ready: int
    waiting: int
    held: int  # of those that wait: until a replica is there
    queue: list[Standing]  # of the others, who has how much
    scaling: Scaling | None  # None: it stays as it is
    act: Act | None  # the present one, or the last
    replicas: list[Replica]


def deployment_view(services: Services, found: DeploymentStatus) -> Deployment:
    name = found.info.name
    waiting, queue = services.scheduling.waiting(name), services.scheduling.standings(name)
    return Deployment(
        name=name,
        model=found.info.model,
        engine=found.info.engine,
        aliases=list(found.info.aliases),
        long_texts=found.info.long_texts,
        in_settings=services.deployments.in_settings(name),
        desired=found.desired,
        ready=len(services.directory.ready(name)),
        waiting=waiting,
        held=waiting - sum(standing.requests for standing in queue),
        queue=queue,
        scaling=None if found.policy is None else _scaling(found.policy),
        act=services.deployments.acts.latest(name),
        replicas=[_replica(each) for each in found.replicas],
    )


def _scaling(policy: Policy) -> Scaling:
    return Scaling(policy.min_replicas, policy.max_replicas, policy.idle_s, policy.target_queue_s, policy.target_ttft_s)


def _replica(found: ReplicaStatus) -> Replica:
    stats = found.stats
    return Replica(
        id=found.id,
        state=found.state,
        pid=found.pid,
        epoch=found.epoch,
        restarts=found.restarts,
        last_error=found.last_error,
        running=stats.running,
        waiting=stats.waiting,
        slots=stats.slots,
        kv_blocks=stats.kv_blocks,
        kv_blocks_used=stats.kv_blocks_used,
        kv_blocks_cached=stats.kv_blocks_cached,
        tokens_per_s=found.tokens_per_s,
        prompt_tokens=stats.prompt_tokens,
        generated_tokens=stats.generated_tokens,
        prefix_query_tokens=stats.prefix_query_tokens,
        prefix_hit_tokens=stats.prefix_hit_tokens,
        step_ms=found.step_s * 1e3,
        step_s=stats.step_s,
        infer_s=stats.infer_s,
    )

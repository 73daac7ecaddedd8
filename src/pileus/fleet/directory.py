"""Who serves what, at this moment: a snapshot in memory that the fleet pushes and requests only look at."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from pileus.core.errors import ConfigError, ModelNotFound
from pileus.engines.replica.client import ReplicaLink
from pileus.fleet.records import DeploymentInfo, DeploymentStatus, ServedAdapter, Target
from pileus.scheduling.traffic import Arm, choose

Listener = Callable[[Mapping[ReplicaLink, bool]], None]


class Directory(Protocol):
    """What the rooms above need to know of the fleet. Belongs to the event loop's thread."""

    def deployments(self) -> tuple[str, ...]: ...

    def resolve(self, name: str, key: Callable[[], str] = str) -> DeploymentInfo:
        """Who answers what is asked of this name: a public name's deployments have shares of the keys; else the
        deployment of this name or alias. Raises `ModelNotFound`."""
        ...

    def info(self, deployment: str) -> DeploymentInfo:
        """A deployment by its own name. Raises `ModelNotFound`."""
        ...

    def public_names(self) -> tuple[str, ...]:
        """Those whose requests are shared out."""
        ...

    def arms(self, name: str) -> tuple[Arm, ...]:
        """Of a public name; none of any other."""
        ...

    def find(self, name: str, tenant: str, key: Callable[[], str] = str) -> Target:
        """What a request of that tenant means by this name: as `resolve`, or `deployment:adapter`. Raises
        `ModelNotFound`, also for an adapter of another tenant."""
        ...

    def adapters(self, deployment: str) -> Mapping[str, ServedAdapter]:
        """By name; those of every tenant."""
        ...

    def ready(self, deployment: str) -> Sequence[ReplicaLink]:
        """Replicas that take requests now: proven by a real generation, and not draining."""
        ...

    def subscribe(self, deployment: str, callback: Listener) -> None:
        """Call back now with the replicas that are ready, if any, and soon after something changed, with the links that
        changed and whether they take requests: a replica became ready, is not any more, or has more or less room; with
        none when it will not wake."""

    def wake(self, deployment: str) -> None:
        """Somebody asks for it: if it sleeps, have a replica started."""

    def starting_s(self, deployment: str) -> float | None:
        """In about how many seconds a deployment that sleeps or wakes will take requests; None for any other."""
        ...

    def status(self) -> list[DeploymentStatus]: ...


class ServingDirectory:
    """Meets `Directory`. The callables are the controller's, since only it knows replicas that are not ready."""

    def __init__(
        self,
        deployments: Iterable[DeploymentInfo],
        status: Callable[[], list[DeploymentStatus]],
        *,
        wake: Callable[[str], None] = lambda _: None,
        starting_s: Callable[[str], float | None] = lambda _: None,
    ) -> None:
        self.on_offered: list[Callable[[DeploymentInfo], None]] = []  # called with what is new or has changed
        self.on_dropped: list[Callable[[str], None]] = []
        self.on_routed: list[Callable[[str, tuple[Arm, ...]], None]] = []  # with a public name's new arms; () is none
        self.on_added: list[Callable[[str, ReplicaLink], None]] = []  # called before a request may go to that replica
        self.on_adapters: list[Callable[[str, Sequence[ServedAdapter]], None]] = []  # called with all that it has now
        self._adapters: dict[str, dict[str, ServedAdapter]] = {}
        self._status = status
        self._wake = wake
        self._starting_s = starting_s
        self._deployments: dict[str, DeploymentInfo] = {}
        self._names: dict[str, DeploymentInfo] = {}  # aliases too
        self._traffic: dict[str, tuple[Arm, ...]] = {}
        self._ready: dict[str, tuple[ReplicaLink, ...]] = {}
        self._serving: set[ReplicaLink] = set()
        self._subscribers: defaultdict[str, list[Listener]] = defaultdict(list)
        self._news: dict[str, dict[ReplicaLink, None]] = {}  # what subscribers are about to hear of
        for info in deployments:
            if info.name in self._names:
                raise _taken(info.name)
            self.put(info)

    def deployments(self) -> tuple[str, ...]:
        return tuple(self._deployments)

    def resolve(self, name: str, key: Callable[[], str] = str) -> DeploymentInfo:
        if arms := self._traffic.get(name):
            chosen = choose(name, arms, key() if len(arms) > 1 else "", self._deployments.__contains__)
            if chosen is not None:
                return self._deployments[chosen]
        try:
            return self._names[name]
        except KeyError:
            offered = ", ".join(dict.fromkeys((*self._traffic, *self._names))) or "none at present"
            raise ModelNotFound(f"the model {name!r} does not exist; there is: {offered}", param="model") from None

    def find(self, name: str, tenant: str, key: Callable[[], str] = str) -> Target:
        above, _, below = name.rpartition(":")
        if name not in self._traffic and name not in self._names and (info := self._names.get(above)) is not None:
            adapter = self._adapters.get(info.name, {}).get(below)
            if adapter is not None and adapter.tenant in ("", tenant):
                return Target(info, adapter)
        return Target(self.resolve(name, key))

    def adapters(self, deployment: str) -> Mapping[str, ServedAdapter]:
        return self._adapters.get(deployment, {})

    def info(self, deployment: str) -> DeploymentInfo:
        try:
            return self._deployments[deployment]
        except KeyError:
            raise ModelNotFound(f"there is no deployment {deployment!r}", param="model") from None

    def public_names(self) -> tuple[str, ...]:
        return tuple(self._traffic)

    def ready(self, deployment: str) -> Sequence[ReplicaLink]:
        return self._ready.get(deployment, ())

    def subscribe(self, deployment: str, callback: Listener) -> None:
        self._subscribers[deployment].append(callback)
        if ready := self._ready.get(deployment):
            callback(dict.fromkeys(ready, True))

    def wake(self, deployment: str) -> None:
        self._wake(deployment)

    def starting_s(self, deployment: str) -> float | None:
        return None if self._ready.get(deployment) else self._starting_s(deployment)

    def status(self) -> list[DeploymentStatus]:
        return self._status()

    # --- for the fleet --------------------------------------------------------------------------------------------

    def check(self, deployment: str, aliases: Iterable[str]) -> None:
        """Raises `ConfigError` where one of these names is another deployment's."""
        for name in (deployment, *aliases):
            if name in self._names and self._names[name].name != deployment:
                raise _taken(name)

    def put(self, info: DeploymentInfo) -> None:
        """Offer the deployment under its names, and under no others. Raises as `check` does."""
        self.check(info.name, info.aliases)
        self._forget_names(info.name)
        self._deployments[info.name] = info
        self._names.update(dict.fromkeys((info.name, *info.aliases), info))
        for callback in self.on_offered:
            callback(info)

    def put_adapters(self, deployment: str, adapters: Iterable[ServedAdapter]) -> None:
        """Offer these of the deployment, and no others; it need not be offered itself yet."""
        self._adapters[deployment] = {adapter.name: adapter for adapter in adapters}
        for callback in self.on_adapters:
            callback(deployment, tuple(self._adapters[deployment].values()))

    def drop(self, deployment: str) -> None:
        """Offer it no more. Its replicas may still be finishing what they have."""
        self._adapters.pop(deployment, None)
        self._forget_names(deployment)
        del self._deployments[deployment]
        self._subscribers.pop(deployment, None)
        for callback in self.on_dropped:
            callback(deployment)

    def route(self, name: str, arms: tuple[Arm, ...]) -> None:
        """Share out what is asked of that name, from now on; without arms, it is a name as any other."""
        if arms:
            self._traffic[name] = arms
        else:
            self._traffic.pop(name, None)
        for callback in self.on_routed:
            callback(name, arms)

    def arms(self, name: str) -> tuple[Arm, ...]:
        """Of a public name; none of any other."""
        return self._traffic.get(name, ())

    def add(self, deployment: str, link: ReplicaLink) -> None:
        """Requests may go to this replica, until it drains, is lost, or is removed."""
        for callback in self.on_added:
            callback(deployment, link)
        self._ready[deployment] = (*self._ready.get(deployment, ()), link)
        self._serving.add(link)
        link.on_change.append(lambda: self._on_change(deployment, link))
        self._notify_soon(deployment, link)

    def remove(self, deployment: str, link: ReplicaLink) -> None:
        """It takes no more. Subscribers hear of it now: what a lost replica had must not come back to it."""
        if link not in self._serving:
            return
        self._serving.discard(link)
        self._ready[deployment] = tuple(other for other in self._ready[deployment] if other is not link)
        for callback in tuple(self._subscribers.get(deployment, ())):
            callback({link: False})

    def give_up(self, deployment: str) -> None:
        """It was to wake, and does not."""
        for callback in tuple(self._subscribers.get(deployment, ())):
            callback({})

    def _forget_names(self, deployment: str) -> None:
        self._names = {name: info for name, info in self._names.items() if info.name != deployment}

    def _on_change(self, deployment: str, link: ReplicaLink) -> None:
        if link.draining or link.lost.done():
            self.remove(deployment, link)
        else:
            self._notify_soon(deployment, link)

    def _notify_soon(self, deployment: str, link: ReplicaLink) -> None:
        """Once per turn of the loop, however often the credit changed in it."""
        if deployment not in self._news:
            self._news[deployment] = {}
            asyncio.get_running_loop().call_soon(self._notify, deployment)
        self._news[deployment][link] = None

    def _notify(self, deployment: str) -> None:
        news = {link: link in self._serving for link in self._news.pop(deployment)}
        for callback in tuple(self._subscribers.get(deployment, ())):
            callback(news)


def _taken(name: str) -> ConfigError:
    return ConfigError(f"the name {name!r} is given to two deployments; names and aliases are unique")

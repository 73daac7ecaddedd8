"""Who serves what, at this moment: a snapshot in memory that the fleet pushes and requests only look at."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from pileus.core.errors import ConfigError, ModelNotFound
from pileus.engines.replica.client import ReplicaLink
from pileus.fleet.records import DeploymentInfo, DeploymentStatus

Listener = Callable[[Mapping[ReplicaLink, bool]], None]


class Directory(Protocol):
    """What the rooms above need to know of the fleet. Belongs to the event loop's thread."""

    def deployments(self) -> tuple[str, ...]: ...

    def resolve(self, name: str) -> DeploymentInfo:
        """The deployment of this name or alias. Raises `ModelNotFound`."""
        ...

    def ready(self, deployment: str) -> Sequence[ReplicaLink]:
        """Replicas that take requests now: proven by a real generation, and not draining."""
        ...

    def subscribe(self, deployment: str, callback: Listener) -> None:
        """Call back now with the replicas that are ready, if any, and soon after something changed, with the links that
        changed and whether they take requests: a replica became ready, is not any more, or has more or less room."""

    def status(self) -> list[DeploymentStatus]: ...


class ServingDirectory:
    """Meets `Directory`. `status` is the controller's answer, since only it knows replicas that are not ready."""

    def __init__(self, deployments: Iterable[DeploymentInfo], status: Callable[[], list[DeploymentStatus]]) -> None:
        self._deployments: dict[str, DeploymentInfo] = {}
        self._names: dict[str, DeploymentInfo] = {}  # aliases too
        for info in deployments:
            self._deployments[info.name] = info
            for name in dict.fromkeys((info.name, *info.aliases)):
                if name in self._names:
                    raise ConfigError(f"the name {name!r} is given to two deployments; names and aliases are unique")
                self._names[name] = info
        self._status = status
        self._ready: dict[str, tuple[ReplicaLink, ...]] = dict.fromkeys(self._deployments, ())
        self._serving: set[ReplicaLink] = set()
        self._subscribers: dict[str, list[Listener]] = {name: [] for name in self._deployments}
        self._news: dict[str, dict[ReplicaLink, None]] = {}  # what subscribers are about to hear of

    def deployments(self) -> tuple[str, ...]:
        return tuple(self._deployments)

    def resolve(self, name: str) -> DeploymentInfo:
        try:
            return self._names[name]
        except KeyError:
            offered = ", ".join(self._names)
            raise ModelNotFound(f"the model {name!r} does not exist; there is: {offered}", param="model") from None

    def ready(self, deployment: str) -> Sequence[ReplicaLink]:
        return self._ready[deployment]

    def subscribe(self, deployment: str, callback: Listener) -> None:
        self._subscribers[deployment].append(callback)
        if ready := self._ready[deployment]:
            callback(dict.fromkeys(ready, True))

    def status(self) -> list[DeploymentStatus]:
        return self._status()

    # --- for the fleet --------------------------------------------------------------------------------------------

    def add(self, deployment: str, link: ReplicaLink) -> None:
        """Requests may go to this replica, until it drains, is lost, or is removed."""
        self._ready[deployment] = (*self._ready[deployment], link)
        self._serving.add(link)
        link.on_change.append(lambda: self._on_change(deployment, link))
        self._notify_soon(deployment, link)

    def remove(self, deployment: str, link: ReplicaLink) -> None:
        """It takes no more. Subscribers hear of it now: what a lost replica had must not come back to it."""
        if link not in self._serving:
            return
        self._serving.discard(link)
        self._ready[deployment] = tuple(other for other in self._ready[deployment] if other is not link)
        for callback in self._subscribers[deployment]:
            callback({link: False})

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
        for callback in self._subscribers[deployment]:
            callback(news)

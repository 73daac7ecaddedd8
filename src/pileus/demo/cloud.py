"""The server as the demonstration sees it: Pileus' own routes, and OpenAI's through the official client."""

from collections.abc import Callable, Sequence
from functools import cached_property
from time import monotonic, sleep
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import httpx
from msgspec import Struct

from pileus.core.errors import OperatorError

if TYPE_CHECKING:
    from openai import OpenAI

_LOOK_S: Final = 0.3
_PATIENCE_S: Final = 600.0  # for one answer
_KV_BYTES: Final = 100_000_000  # of one deployment: several are there at the same time
_ENDED: Final = ("succeeded", "failed", "cancelled", "expired")
_DEPLOYMENTS: Final = "/admin/v1/deployments"

# Called with what goes on, how far it is, of how much (0: nobody knows).
Tell = Callable[[str, int, int], None]


class Ended(Struct, frozen=True, kw_only=True):
    """A job that has done what it should."""

    id: str
    seconds: float  # from its start to its end
    points: Sequence[dict[str, Any]]  # its curves: `step` and `values`

    def curve(self, name: str) -> list[tuple[int, float]]:
        """Steps and values of one figure."""
        return [(point["step"], point["values"][name]) for point in self.points if name in point["values"]]


class Cloud:
    """For one administrator's key. Use it as a context manager."""

    def __init__(self, url: str, key: str, tell: Tell) -> None:
        self.tell = tell
        self._url = url
        self._key = key
        self._http = httpx.Client(
            base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=_PATIENCE_S, trust_env=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.close()
        if "openai" in vars(self):
            self.openai.close()

    @cached_property
    def openai(self) -> "OpenAI":
        """OpenAI's own client."""
        from openai import DefaultHttpxClient, OpenAI

        return OpenAI(base_url=f"{self._url}/v1", api_key=self._key, http_client=DefaultHttpxClient(trust_env=False))

    def get(self, path: str) -> Any:
        return self._send("GET", path)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return self._send("POST", path, body)

    def put(self, path: str, body: dict[str, Any]) -> Any:
        return self._send("PUT", path, body)

    def job(self, kind: str, spec: dict[str, Any], title: str) -> Ended:
        """Have a job done and wait for it. Raises `OperatorError` where it does not succeed."""
        job = self.post("/v1/jobs", {"kind": kind, "spec": spec})
        while (job := self.get(f"/v1/jobs/{job['id']}"))["state"] not in _ENDED:
            stage = job["stage"].replace("_", " ")
            self.tell(f"{title}: {stage}" if stage else title, job["done"], job["total"])
            sleep(_LOOK_S)
        if job["state"] != "succeeded":
            reason = job["error"]["message"] if job["error"] else job["state"]
            raise OperatorError(f"{title} ({job['id']}): {reason}")
        points = self.get(f"/v1/jobs/{job['id']}/metrics?limit=2000")["data"]
        return Ended(id=job["id"], seconds=job["finished_at"] - job["started_at"], points=points)

    def latest(self, model: str) -> dict[str, Any]:
        """The latest version of a model, as it is on record."""
        return dict(self.get(f"/admin/v1/models/{model}")["versions"][0])

    def deploy(self, name: str, model: str, engine: str = "native") -> None:
        """With little room for keys and values. Return once it answers. Raises `OperatorError` where it cannot."""
        began = monotonic()
        options = {"kv_bytes": _KV_BYTES} if engine == "native" else {}
        wish = {"name": name, "model": model, "engine": engine, "options": options}
        self.put(f"{_DEPLOYMENTS}/{name}", wish)
        while True:
            found = self.get(f"{_DEPLOYMENTS}/{name}")
            act = found["act"] or {"ended": True, "error": ""}
            if act.get("error"):
                raise OperatorError(f"deploying {name}: {act['error']}")
            if act["ended"] and found["ready"]:
                return
            self.tell(f"deploying {name}", int(monotonic() - began), 0)
            sleep(_LOOK_S)

    def undeploy(self, name: str) -> None:
        """Return at once; it lets go of its memory by itself."""
        self._send("DELETE", f"{_DEPLOYMENTS}/{name}")

    def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        try:
            answer = self._http.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise OperatorError(f"the connection to the server broke: {error or type(error).__name__}") from None
        if answer.is_error:
            raise Refused(answer.json()["error"]["message"])
        return answer.json()


class Refused(OperatorError):
    """The server said no."""

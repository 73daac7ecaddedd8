"""`pileus ps` and `pileus status`: what the server runs, and how it fares."""

from typing import Any

from pileus.cli import output
from pileus.cli.client import Client
from pileus.cli.options import DEFAULT_URL, Json, Url

_STATUS = "/admin/v1/status"


def ps(url: Url = DEFAULT_URL, json: Json = False) -> None:
    """List the replicas: the processes that hold a model.

    Example: `pileus ps --json | jq '.[].pid'`
    """
    with Client(url) as client:
        deployments = client.get(_STATUS)["deployments"]
    replicas = [{"deployment": each["name"], **replica} for each in deployments for replica in each["replicas"]]
    if json:
        output.json(replicas)
        return
    output.table(
        ("REPLICA", "STATE", "PID", "RUNNING", "KV USE", "TOKENS/S", "RESTARTS", "LAST ERROR"),
        (
            (
                replica["id"],
                replica["state"],
                replica["pid"],
                f"{replica['running']}/{replica['slots']}",
                _ratio(replica["kv_blocks_used"], replica["kv_blocks"]),
                f"{replica['tokens_per_s']:.0f}",
                replica["restarts"],
                replica["last_error"],
            )
            for replica in replicas
        ),
    )


def status(url: Url = DEFAULT_URL, json: Json = False) -> None:
    """Show the server and its deployments.

    Example: `pileus status`
    """
    with Client(url) as client:
        answer = client.get(_STATUS)
    if json:
        output.json(answer)
        return
    output.line(f"Pileus {answer['version']} at {url}, up for {output.duration(answer['uptime_s'])}")
    output.line()
    output.table(
        ("DEPLOYMENT", "MODEL", "ENGINE", "READY", "RUNNING", "WAITING", "TOKENS/S", "PREFIX HITS"),
        (_deployment_row(deployment) for deployment in answer["deployments"]),
    )


def _deployment_row(deployment: dict[str, Any]) -> tuple[object, ...]:
    replicas = deployment["replicas"]
    names = ", ".join((deployment["name"], *deployment["aliases"]))
    return (
        names,
        deployment["model"],
        deployment["engine"],
        f"{sum(replica['state'] == 'ready' for replica in replicas)}/{len(replicas)}",
        sum(replica["running"] for replica in replicas),
        deployment["waiting"],
        f"{sum(replica['tokens_per_s'] for replica in replicas):.0f}",
        _ratio(
            sum(replica["prefix_hit_tokens"] for replica in replicas),
            sum(replica["prefix_query_tokens"] for replica in replicas),
        ),
    )


def _ratio(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else ""

"""`pileus models tag` against a scripted server."""

from unit.cli.conftest import Pileus, Stub

VERSION = "/admin/v1/models/mine/versions"


def test_a_tag_tells_stage_and_aliases_apart(pileus: Pileus, stub: Stub) -> None:
    found = {"model": "mine", "number": 3, "stage": "production", "aliases": ["production", "best"]}
    for ref in ("latest", "3"):
        stub.answer("GET", f"{VERSION}/{ref}", found)
    stub.answer("PUT", f"{VERSION}/3/stage", found)
    ran = pileus("models", "tag", "mine", "--stage", "production")
    assert ran.out == "mine@3 is in the stage production; aliases: production, best.\n"
    assert stub.bodies == [{"stage": "production"}]

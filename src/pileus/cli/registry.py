"""`pileus models versions`, `tag`, `card`, `sign`, `diff` and `lineage`: what is on record of models.

With a key (`PILEUS_API_KEY`) the running server is asked. Without one, the data folder itself is opened, which works
only while no server owns it.
"""

from typing import Annotated

import typer

from pileus.cli import output
from pileus.cli.lineage import difference_lines, lineage_lines
from pileus.cli.options import DEFAULT_URL, Config, Data, Json, Url
from pileus.cli.versions import open_versions, split
from pileus.core.errors import OperatorError

Version = Annotated[
    str, typer.Argument(metavar="NAME[@VERSION]", help="A version: `mine@3`, `mine@production`; else the latest.")
]


def versions(
    name: Annotated[str, typer.Argument(help="Of this model only.")] = "",
    url: Url = DEFAULT_URL,
    config: Config = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """List the versions of models, with their stages and aliases.

    Example: `pileus models versions smollm2-135m-instruct`
    """
    with open_versions(url, config, data) as registry:
        found = [model for model in registry.models() if name in ("", model["name"])]
    if name and not found:
        raise OperatorError(f"there is no model {name!r} with versions here")
    if json:
        output.json(found)
        return
    output.table(
        ("MODEL", "VERSION", "STAGE", "ALIASES", "KIND", "SIZE", "LICENCE", "SIGNED", "INSTALLED"),
        (
            (
                each["model"],
                each["number"],
                each["stage"],
                " ".join(each["aliases"]),
                each["kind"],
                output.size(each["size_bytes"]),
                each["licence"],
                "yes" if each["signed_by"] else "",
                "yes" if each["installed"] else "",
            )
            for model in found
            for each in model["versions"]
        ),
    )


def tag(
    version: Version,
    stage: Annotated[str | None, typer.Option(help="candidate, staging, production or retired.")] = None,
    alias: Annotated[list[str] | None, typer.Option(help="A name that shall lead to it; may be given again.")] = None,
    drop: Annotated[list[str] | None, typer.Option(help="An alias of the model that shall lead nowhere.")] = None,
    licence: Annotated[str | None, typer.Option(help="What its card says of its licence.")] = None,
    intended_use: Annotated[str | None, typer.Option(help="What its card says it is for.")] = None,
    limits: Annotated[str | None, typer.Option(help="What its card says it is not for.")] = None,
    training_data: Annotated[str | None, typer.Option(help="What its card says of its data.")] = None,
    notes: Annotated[str | None, typer.Option(help="What else its card says.")] = None,
    url: Url = DEFAULT_URL,
    config: Config = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Move a version to a stage, let an alias lead to it, or change what its card says.

    Example: `pileus models tag mine@3 --stage production --alias production`
    """
    name, ref = split(version)
    wishes = {"licence": licence, "intended_use": intended_use, "limits": limits, "data": training_data, "notes": notes}
    said = {key: text for key, text in wishes.items() if text is not None}
    if not (stage or alias or drop or said):
        raise OperatorError("say what to change: --stage, --alias, --drop or a field of the card (see --help)")
    with open_versions(url, config, data) as registry:
        ref = str(registry.version(name, ref)["number"])  # an alias may be about to move
        for each in drop or ():
            registry.drop_alias(name, each)
        if said:
            registry.describe(name, ref, said)
        if stage:
            registry.set_stage(name, ref, stage)
        for each in alias or ():
            registry.set_alias(name, each, ref)
        found = registry.version(name, ref)
    if json:
        output.json(found)
    else:
        names = f"; aliases: {', '.join(found['aliases'])}" if found["aliases"] else ""
        output.line(f"{name}@{ref} is in the stage {found['stage']}{names}.")


def sign(
    version: Version, url: Url = DEFAULT_URL, config: Config = None, data: Data = None, json: Json = False
) -> None:
    """Vouch for a version and its card with this Pileus' key (Ed25519).

    Example: `pileus models sign mine@3`
    """
    with open_versions(url, config, data) as registry:
        found = registry.sign(*split(version))
    if json:
        output.json(found)
    else:
        output.line(f"{found['model']}@{found['number']} is signed by {found['signed_by']}")


def card(
    version: Version, url: Url = DEFAULT_URL, config: Config = None, data: Data = None, json: Json = False
) -> None:
    """Print a version's card as Markdown: figures, data, licence, intended use.

    Example: `pileus models card mine@production > CARD.md`
    """
    name, ref = split(version)
    with open_versions(url, config, data) as registry:
        if json:
            output.json(registry.version(name, ref))
        else:
            output.line(registry.card(name, ref).rstrip())


def diff(
    before: Version,
    after: Annotated[str, typer.Argument(metavar="VERSION|NAME[@VERSION]", help="`4`, or another model's: `other@2`.")],
    url: Url = DEFAULT_URL,
    config: Config = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Show what sets two versions apart: files, size, licence, figures, parents.

    Examples: `pileus models diff mine@3 4`, `pileus models diff mine@3 mine-int4@1`
    """
    name, ref = split(before)
    other = (name, after) if after.isdigit() else split(after)
    with open_versions(url, config, data) as registry:
        found = registry.diff(name, ref, other)
    if json:
        output.json(found)
    else:
        for line in difference_lines(found):
            output.line(line)


def lineage(
    version: Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="A model, or one version of it.")],
    url: Url = DEFAULT_URL,
    config: Config = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Show what a model came of and what came of it: data, jobs, versions, deployments.

    Example: `pileus models lineage mine@production`
    """
    name, ref = split(version)
    with open_versions(url, config, data) as registry:
        found = registry.lineage(name, ref if "@" in version else "")
    if json:
        output.json(found)
    else:
        for line in lineage_lines(found):
            output.line(line)

"""`GET /v1/models` and `GET /v1/models/{model}`"""

from starlette.types import ASGIApp

from pileus.api.openai.answers import Model, ModelList
from pileus.api.route import Call, GuardedRoute
from pileus.api.stream import JsonAnswer
from pileus.fleet.directory import Directory
from pileus.security.permission import Permission


async def list_models(call: Call) -> ASGIApp:
    """What can be asked for by name."""
    created, names = int(call.owned.started_at), _names(call.services.directory, call.principal.tenant)
    return JsonAnswer(ModelList(data=[Model(id=name, created=created) for name in names]))


async def show_model(call: Call) -> ASGIApp:
    """One deployment, by its name or an alias; one of its adapters; or a public name."""
    directory, asked = call.services.directory, call.path_params["model"]
    name = asked if asked in directory.public_names() else directory.find(asked, call.principal.tenant).name
    return JsonAnswer(Model(id=name, created=int(call.owned.started_at)))


def _names(directory: Directory, tenant: str) -> list[str]:
    names = []
    for deployment in directory.deployments():
        mine = (each.name for each in directory.adapters(deployment).values() if each.tenant in ("", tenant))
        names += [deployment, *(f"{deployment}:{name}" for name in sorted(mine))]
    return list(dict.fromkeys((*names, *directory.public_names())))


ROUTES = (
    GuardedRoute("GET", "/v1/models", list_models, permission=Permission.MODELS_READ, gives=ModelList, tag="OpenAI"),
    GuardedRoute(
        "GET", "/v1/models/{model:path}", show_model, permission=Permission.MODELS_READ, gives=Model, tag="OpenAI"
    ),
)

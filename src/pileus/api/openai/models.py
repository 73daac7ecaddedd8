"""`GET /v1/models` and `GET /v1/models/{model}`"""

from starlette.types import ASGIApp

from pileus.api.openai.answers import Model, ModelList
from pileus.api.route import Call, GuardedRoute
from pileus.api.stream import JsonAnswer
from pileus.security.permission import Permission


async def list_models(call: Call) -> ASGIApp:
    """What can be asked for by name."""
    created, directory, tenant = int(call.owned.started_at), call.services.directory, call.principal.tenant
    names = []
    for deployment in directory.deployments():
        mine = (each.name for each in directory.adapters(deployment).values() if each.tenant in ("", tenant))
        names += [deployment, *(f"{deployment}:{name}" for name in sorted(mine))]
    return JsonAnswer(ModelList(data=[Model(id=name, created=created) for name in names]))


async def show_model(call: Call) -> ASGIApp:
    """One deployment, by its name or an alias; or one of its adapters."""
    target = call.services.directory.find(call.path_params["model"], call.principal.tenant)
    return JsonAnswer(Model(id=target.name, created=int(call.owned.started_at)))


ROUTES = (
    GuardedRoute("GET", "/v1/models", list_models, permission=Permission.MODELS_READ, gives=ModelList, tag="OpenAI"),
    GuardedRoute(
        "GET", "/v1/models/{model:path}", show_model, permission=Permission.MODELS_READ, gives=Model, tag="OpenAI"
    ),
)

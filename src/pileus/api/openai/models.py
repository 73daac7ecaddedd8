"""`GET /v1/models` and `GET /v1/models/{model}`"""

from starlette.types import ASGIApp

from pileus.api.openai.answers import Model, ModelList
from pileus.api.route import Call, GuardedRoute
from pileus.api.stream import JsonAnswer
from pileus.security.permission import Permission


async def list_models(call: Call) -> ASGIApp:
    """What can be asked for by name."""
    created = int(call.owned.started_at)
    return JsonAnswer(
        ModelList(data=[Model(id=name, created=created) for name in call.services.directory.deployments()])
    )


async def show_model(call: Call) -> ASGIApp:
    """One deployment, by its name or an alias."""
    info = call.services.directory.resolve(call.path_params["model"])
    return JsonAnswer(Model(id=info.name, created=int(call.owned.started_at)))


ROUTES = (
    GuardedRoute("GET", "/v1/models", list_models, permission=Permission.MODELS_READ, gives=ModelList, tag="OpenAI"),
    GuardedRoute(
        "GET", "/v1/models/{model:path}", show_model, permission=Permission.MODELS_READ, gives=Model, tag="OpenAI"
    ),
)

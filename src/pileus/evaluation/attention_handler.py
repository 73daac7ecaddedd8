"""What a worker does for jobs of the kind `attention`: it has a process of its own compute."""

from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec.json import encode

from pileus.config.settings import Settings
from pileus.core.errors import OperatorError
from pileus.evaluation.attention_records import AttentionSpec
from pileus.evaluation.measuring import AttentionMeasure, Measurement
from pileus.jobs.child import run_child
from pileus.jobs.handler import Context, JobFailed, Yielded


class AttentionHandler:
    """Meets `jobs.handler.Handler`."""

    def __init__(self, settings: Settings, folder: Callable[[str], Path]) -> None:
        self._settings = settings
        self._folder = folder

    async def __call__(self, context: Context) -> bytes | Yielded:
        spec = msgspec.json.decode(context.job.spec, type=AttentionSpec)
        try:
            folder = self._folder(spec.model)
        except OperatorError as error:
            raise JobFailed(error.message, code=error.code) from None
        wish = Measurement(attention=AttentionMeasure(folder=str(folder), asked=spec))
        return await run_child(context, "pileus.evaluation.process", self._settings, spec=encode(wish))

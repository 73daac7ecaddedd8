"""The process that measures artefacts: it computes with OpenVINO, which no job worker loads."""

from pathlib import Path
from typing import Final

from pileus.core.errors import PileusError
from pileus.core.ports import EngineSpec
from pileus.engines.native.engine import NativeEngine
from pileus.engines.native.graph import Graph
from pileus.engines.native.options import NativeOptions
from pileus.engines.native.reading import Reader
from pileus.evaluation.attention import explain
from pileus.evaluation.attention_records import AttentionResult
from pileus.evaluation.checks import findings
from pileus.evaluation.foreseeing import foresee
from pileus.evaluation.measuring import Measured, Measurement
from pileus.evaluation.tuned import Bench, Served, tuned_findings
from pileus.jobs.handler import YIELDED, JobFailed, Yielded
from pileus.jobs.task import Task, run_task
from pileus.models.low_rank import PeftReader
from pileus.models.tokenizer import load_tokenizer
from pileus.store.job_table import Wish

# As models are served where nothing else is asked; how large a rank may be, each deployment says. No prefix is kept:
# texts are read on the same blocks.
_OPTIONS: Final = NativeOptions(
    kv_bytes=256 << 20, max_sequences=8, adapters=1, adapter_rank=1024, prefix_caching=False
)


class _Asked(Exception):
    """Something is asked of the job."""


def work(task: Task) -> Measured | AttentionResult | Yielded:
    """It keeps nothing on the way: measuring is short."""

    def progress(stage: str, done: int, total: int) -> None:
        if task.wish is not Wish.NONE:
            raise _Asked
        task.progress(stage, done, total)

    wish = task.spec(Measurement)
    try:
        if wish.gate is not None:
            return Measured(findings=tuple(findings(load_tokenizer, wish.gate, progress)))
        if wish.tuned is not None:
            bench = Bench(load_tokenizer, open_served)
            return Measured(tuned=tuple(tuned_findings(bench, wish.tuned, progress)))
        if wish.attention is not None:
            progress("computing", 0, 0)
            return explain(load_tokenizer, Path(wish.attention.folder), wish.attention.asked)
        assert wish.texts is not None
        asked = wish.texts
        folder = Path(asked.folder)
        found = (
            foresee(load_tokenizer, folder, Path(text), asked.windows, asked.seed, progress) for text in asked.texts
        )
        return Measured(perplexities=tuple(found))
    except _Asked:
        return YIELDED if task.wish is Wish.PAUSE else Measured()
    except (PileusError, ValueError) as error:
        raise JobFailed(str(error), code=getattr(error, "code", "bad_text")) from None


def open_served(folder: Path) -> Served:
    """A generator as it would be served, with one slot for an adapter."""
    graph = Graph(folder, _OPTIONS)
    engine = NativeEngine(EngineSpec(folder.name, folder, _OPTIONS, adapters=PeftReader()), graph)
    return Served(engine, Reader(graph))


if __name__ == "__main__":
    run_task(work)

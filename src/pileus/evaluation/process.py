"""The process that measures artefacts: it computes with OpenVINO, which no job worker loads."""

from pathlib import Path

from pileus.core.errors import PileusError
from pileus.evaluation.attention import explain
from pileus.evaluation.attention_records import AttentionResult
from pileus.evaluation.checks import findings
from pileus.evaluation.foreseeing import foresee
from pileus.evaluation.measuring import Measured, Measurement
from pileus.jobs.handler import YIELDED, JobFailed, Yielded
from pileus.jobs.task import Task, run_task
from pileus.models.tokenizer import load_tokenizer
from pileus.store.job_table import Wish


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


if __name__ == "__main__":
    run_task(work)

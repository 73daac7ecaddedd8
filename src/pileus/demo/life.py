"""The chapters in their order."""

from collections.abc import Callable
from pathlib import Path
from time import monotonic

from pileus.demo.chapter import Chapter, Stage
from pileus.demo.cloud import Cloud
from pileus.demo.corpus import prepare_corpus
from pileus.demo.pretraining import fine_tune_classifier, train_bert, train_gpt
from pileus.demo.release import compress, judge_and_release
from pileus.demo.report import Report, make_report, save
from pileus.demo.scale import Scale
from pileus.demo.tickets import fine_tune
from pileus.demo.translating import translate


def live(cloud: Cloud, folder: Path, scale: Scale, on_chapter: Callable[[Chapter], None]) -> Report:
    """From texts to a service and back; `on_chapter` hears of each chapter as it ends. The report is written after
    each, so that what went well is kept where something later does not. Raises `OperatorError` there."""
    began, stage = monotonic(), Stage(cloud, folder, scale)
    chapters: list[Chapter] = []

    def end(chapter: Chapter) -> None:
        chapters.append(chapter)
        save(make_report(chapters, monotonic() - began), folder)
        on_chapter(chapter)

    chapter, dataset = prepare_corpus(stage)
    end(chapter)
    end(train_gpt(stage, dataset))
    chapter, bert = train_bert(stage, dataset)
    end(chapter)
    end(fine_tune_classifier(stage, bert))
    end(translate(stage))
    chapter, adapter = fine_tune(stage)
    end(chapter)
    end(compress(stage, adapter))
    end(judge_and_release(stage))
    return make_report(chapters, monotonic() - began)

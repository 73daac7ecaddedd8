"""Where fine-tunings meet the gate: neither of the two knows the other."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pileus.config.settings import Settings
    from pileus.evaluation.records import GateResult
    from pileus.jobs.handler import Context, Yielded
    from pileus.models.catalogue import Catalogue
    from pileus.training.finetune.judging import Case, Judge
    from pileus.training.finetune.records import Ruling


def fine_tuning_judge(settings: "Settings", catalogue: "Catalogue") -> "Judge | None":
    """What judges models at the end of a fine-tuning; None where the settings want none."""
    from pileus.evaluation.handler import measure_in_child
    from pileus.evaluation.measuring import Item, Piece
    from pileus.evaluation.tuned_gate import TunedCase, TunedGate
    from pileus.jobs.handler import Yielded

    if not settings.fine_tuning.gate:
        return None
    gate = TunedGate(lambda name: catalogue.require(name).path, measure_in_child(settings))

    async def judge(context: "Context", case: "Case") -> "tuple[Ruling, ...] | Yielded":
        pieces = ([Piece(tuple(each.ids), tuple(each.learnt)) for each in item] for item in case.items)
        asked = TunedCase(
            base=case.base,
            candidates=case.candidates,
            items=tuple(Item(*each) for each in pieces),
            held_out=case.held_out,
            margin=settings.fine_tuning.gate_margin,
            beta=case.beta,
        )
        given = await gate.judge(context, asked)
        return given if isinstance(given, Yielded) else tuple(map(_ruling, given))

    return judge


def _ruling(result: "GateResult") -> "Ruling":
    from msgspec import Raw
    from msgspec.json import encode

    from pileus.training.finetune.records import Ruling

    wrong = "; ".join(f"{finding.check}: {finding.says}" for finding in result.findings if not finding.passed)
    return Ruling(candidate=result.candidate, refusal=wrong, evidence=Raw(encode(result)))

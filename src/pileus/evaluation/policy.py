"""What a verdict must show to let a model have a public name: beside whom it was judged, and by which margins."""

from typing import Final

from msgspec import Struct

from pileus.config.settings import Gate
from pileus.evaluation.records import GateResult, Margins

_USUAL: Final = Margins()


class Policy(Struct, frozen=True):
    """Pure: of verdicts that were read, and are genuine."""

    gate: Gate
    loss_margin: float  # nats: the most that a fine-tuning's own verdict may have allowed

    @property
    def takes_any_parent(self) -> bool:
        return self.gate.parent == "any"

    def is_of_parent(self, result: GateResult, served_sha256: str) -> bool:
        """Whether it holds the candidate against what is served (empty: that is no artefact), or is a fine-tuning's
        own, which holds it against its base."""
        of_served = served_sha256 != "" and result.parent_sha256 == served_sha256
        return self.takes_any_parent or of_served or _is_of_fine_tuning(result)

    def too_wide(self, result: GateResult) -> str:
        """Which margin of a verdict that passed does not count, and what the most is; empty where all count."""
        if result.margins is None:
            allowed = _loss_margin(result)
            if allowed is None:
                return "without a look at its loss"
            return _beyond("loss", allowed, self.loss_margin, "fine_tuning.gate_margin")
        margins = result.margins
        found = _beyond("perplexity", margins.perplexity, self.gate.max_perplexity_margin, "gate.max_perplexity_margin")
        if not found and any(finding.check == "task" for finding in result.findings):
            found = _beyond("scores", margins.score, self.gate.max_score_margin, "gate.max_score_margin")
        return found

    def command(self, candidate: str, parent: str) -> str:
        """What makes a verdict that counts, if it is a good one."""
        options = [f"pileus gate {candidate} --parent {parent}"]
        if self.gate.max_perplexity_margin < _USUAL.perplexity:
            options.append(f"--margin {self.gate.max_perplexity_margin:g}")
        if self.gate.max_score_margin < _USUAL.score:
            options.append(f"--score-margin {self.gate.max_score_margin:g}")
        return " ".join(options)


def _is_of_fine_tuning(result: GateResult) -> bool:
    return result.margins is None


def _loss_margin(result: GateResult) -> float | None:
    return next((finding.figures.get("most") for finding in result.findings if finding.check == "loss"), None)


def _beyond(what: str, allowed: float, most: float, setting: str) -> str:
    return f"with a margin of {allowed:g} for {what}, and `{setting}` is {most:g}" if allowed > most else ""

"""What a verdict must show to let a model have a public name: beside whom it was judged, and by which margins."""

from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import Struct

from pileus.config.settings import Gate
from pileus.evaluation.records import GateResult, Margins

_USUAL: Final = Margins()
_FORCE: Final = "force it (`--force`)"


class Claim(Struct, frozen=True, kw_only=True):
    """A model's, to a public name."""

    model: str
    sha256: str  # of its manifest; empty: it is no artefact
    name: str
    served: str  # the model that answers for the name now; empty: none does
    served_sha256: str  # empty: that is no artefact, or there is none


class Given(Struct, frozen=True):
    """A verdict that is on record."""

    result: GateResult
    genuine: bool  # signed by this Pileus, of what is installed now


class Refusal(Struct, frozen=True):
    """Why a model may not have a public name, and what the operator can do about it."""

    why: str
    way: str


class Policy(Struct, frozen=True):
    """Pure: of verdicts that were read, the latest first."""

    gate: Gate
    loss_margin: float  # nats: the most that a fine-tuning's own verdict may have allowed

    def refusal(self, claim: Claim, verdicts: Sequence[Given]) -> Refusal | None:
        """None where the verdict that decides is genuine, good, and by margins that count; or where none is needed."""
        if claim.sha256 and claim.sha256 == claim.served_sha256:  # the very files that are served are not worse
            return None
        is_free = not claim.served and not self.gate.judge_first
        deciding = next(self._deciding(claim, verdicts), None)
        if deciding is not None:
            return self._weighed(claim, deciding, is_free=is_free)
        return None if is_free else self._unjudged(claim, verdicts)

    def _deciding(self, claim: Claim, verdicts: Sequence[Given]) -> Iterator[Given]:
        """Those that may decide; the first of them does. What is not genuine counts against a model until it is judged
        anew."""
        if claim.served:  # else no verdict is beside it, and what was refused stays refused
            return (each for each in verdicts if not each.genuine or self._is_beside(claim, each.result))
        return iter((*self._standing(verdicts), *verdicts))

    def _standing(self, verdicts: Sequence[Given]) -> Iterator[Given]:
        """Refusals that no later verdict beside the same parent has lifted, by margins that count."""
        lifted: set[str] = set()
        for given in (each for each in verdicts if each.genuine):
            result = given.result
            parent = "" if self._takes_any_parent else result.parent_sha256
            if result.passed and not self._too_wide(result):
                lifted.add(parent)
            elif not result.passed and parent not in lifted:
                yield given

    def _weighed(self, claim: Claim, given: Given, *, is_free: bool) -> Refusal | None:
        """By the verdict that decides."""
        result = given.result
        again = self._again(claim, result.parent if given.genuine else "...")
        if not given.genuine:
            return Refusal(f"the verdict on {claim.model} was not signed by this Pileus", again)
        if not result.passed:
            wrong = next(finding for finding in result.findings if not finding.passed)
            return Refusal(f"the gate refused {claim.model} ({wrong.check}: {wrong.says})", again)
        if not is_free and (wide := self._too_wide(result)):
            return Refusal(f"the gate passed {claim.model} {wide}", again)
        return None

    def _unjudged(self, claim: Claim, verdicts: Sequence[Given]) -> Refusal:
        """Where none decides."""
        model, name, served = claim.model, claim.name, claim.served
        if not claim.sha256:
            return Refusal(f"{model} is not installed as an artefact that the gate could have judged", _FORCE)
        again = self._again(claim, "...")
        if self._can_have_no_parent(claim):
            why = f"{name} serves {served}, which is no artefact that the gate could hold {model} against"
            return Refusal(why, again)
        if not verdicts:
            return Refusal(f"the gate has not judged {model} as it is now", again)
        parent = verdicts[0].result.parent
        return Refusal(f"the gate judged {model} beside {parent}, and {name} serves {served}", again)

    def _again(self, claim: Claim, parent: str) -> str:
        """What the operator can do: have it judged beside what is served, or that parent where nothing is."""
        if self._can_have_no_parent(claim):
            return _FORCE
        return f"run `{self._command(claim.model, claim.served if claim.served_sha256 else parent)}`, or {_FORCE}"

    @property
    def _takes_any_parent(self) -> bool:
        return self.gate.parent == "any"

    def _can_have_no_parent(self, claim: Claim) -> bool:
        """Whether no verdict of `pileus gate` could be beside what is served."""
        return claim.served != "" and not claim.served_sha256 and not self._takes_any_parent

    def _is_beside(self, claim: Claim, result: GateResult) -> bool:
        """Whether it holds the model against what is served, or is a fine-tuning's own, which holds it against its
        base."""
        of_served = claim.served_sha256 != "" and result.parent_sha256 == claim.served_sha256
        return self._takes_any_parent or of_served or _is_of_fine_tuning(result)

    def _too_wide(self, result: GateResult) -> str:
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

    def _command(self, candidate: str, parent: str) -> str:
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

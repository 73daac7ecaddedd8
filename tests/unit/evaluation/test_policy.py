"""Which verdict decides whether a model may have a public name, and what an operator is told where none lets it."""

import pytest

from pileus.config.settings import Gate
from pileus.evaluation.policy import Claim, Given, Policy
from pileus.evaluation.records import Finding, GateResult, Margins

USUAL, WIDE = Margins(), Margins(perplexity=9.0)
FIRST = Claim(model="storm", sha256="s1", name="chat", served="", served_sha256="")
BESIDE = Claim(model="storm", sha256="s1", name="chat", served="cloud", served_sha256="c1")
ENGINE = Claim(model="storm", sha256="s1", name="chat", served="fake", served_sha256="")
FREE = "let in"


def said(parent: str = "cloud", *, passed: bool = True, margins: Margins | None = USUAL, genuine: bool = True) -> Given:
    """A verdict on `storm`; a fine-tuning's, where there are no margins."""
    finding = Finding(check="loss", passed=passed, says="so", figures={"most": 0.01})
    result = GateResult(
        candidate="storm",
        sha256="s1",
        parent=parent,
        parent_sha256=f"{parent[0]}1",
        margins=margins,
        passed=passed,
        findings=(finding,),
    )
    return Given(result, genuine)


def no(parent: str = "cloud", margins: Margins | None = USUAL) -> Given:
    return said(parent, passed=False, margins=margins)


def outcome(claim: Claim, *verdicts: Given, **gate: object) -> str:
    """Of verdicts, the latest first."""
    refusal = Policy(Gate.model_validate(gate), 0.02).refusal(claim, verdicts)
    return FREE if refusal is None else f"{refusal.why}: {refusal.way}"


REFUSED = "the gate refused storm (loss: so): run `pileus gate storm --parent cloud`, or force it (`--force`)"


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ((), FREE),
        ((said(margins=WIDE),), FREE),  # as if it had not been judged
        ((no(),), REFUSED),
        ((said("bad"), no()), REFUSED),
        ((said("bad"), said("bad", margins=WIDE), no()), REFUSED),
        ((said(margins=WIDE), no()), REFUSED),  # the same parent, by margins that do not count
        ((said(genuine=False), no()), REFUSED),
        ((said(), no()), FREE),
        ((said("bad"), said(), no()), FREE),
        ((said("bad"), said(), no("bad"), no()), FREE),
        ((said(), no("mist"), no()), REFUSED.replace("--parent cloud", "--parent mist")),
        ((said(margins=None), no()), FREE),  # a fine-tuning's own, beside the same base
        ((no(), said()), REFUSED),
        ((said(), said(genuine=False)), FREE),  # judged anew since
    ],
)
def test_what_the_gate_refused_is_no_first_model_until_it_passes_beside_the_same_parent(
    verdicts: tuple[Given, ...], expected: str
) -> None:
    assert outcome(FIRST, *verdicts) == expected


def test_where_any_parent_counts_a_first_model_may_pass_beside_another() -> None:
    assert outcome(FIRST, said("bad"), no(), parent="any") == FREE
    assert outcome(FIRST, said("bad", margins=WIDE), no(), parent="any") == REFUSED


def test_a_first_model_that_must_be_judged_is_held_to_the_margins_and_to_its_refusals() -> None:
    assert "has not judged storm as it is now: run `pileus gate storm --parent ...`" in outcome(FIRST, judge_first=True)
    told = outcome(FIRST, said(margins=WIDE), judge_first=True)
    assert "margin of 9 for perplexity" in told
    assert "run `pileus gate storm --parent cloud`" in told
    assert outcome(FIRST, said("bad"), no(), judge_first=True) == REFUSED
    assert outcome(FIRST, said(), no(), judge_first=True) == FREE


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ((said(),), FREE),
        ((no("bad"), said()), FREE),
        ((said(), no()), FREE),
        ((no(), said()), REFUSED),
        ((no("base", margins=None), said()), REFUSED),  # a fine-tuning's own, of what it made
    ],
)
def test_beside_what_is_served_the_latest_decides_and_a_refusal_says_how_to_judge_anew(
    verdicts: tuple[Given, ...], expected: str
) -> None:
    assert outcome(BESIDE, *verdicts) == expected


@pytest.mark.parametrize("claim", [FIRST, BESIDE])
def test_a_verdict_of_somebody_else_is_not_quoted(claim: Claim) -> None:
    told = outcome(claim, said("$(reboot)", genuine=False), said())
    assert "the verdict on storm was not signed by this Pileus: run `pileus gate storm --parent" in told
    assert "reboot" not in told


def test_nobody_is_sent_to_judge_beside_what_is_no_artefact() -> None:
    force = "force it (`--force`)"
    assert outcome(ENGINE, said()).endswith(f"the gate could hold storm against: {force}")
    assert outcome(ENGINE, no("base", margins=None)) == f"the gate refused storm (loss: so): {force}"
    assert outcome(ENGINE, no(), parent="any") == REFUSED

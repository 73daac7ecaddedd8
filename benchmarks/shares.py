"""Open loops to figures: what was let in, how long it took, and who got how much.

Times count from when a request was due, so that a load generator that falls behind counts against what it measures.
"""

from collections.abc import Sequence

from benchmarks.answers import Refused, Timeline
from benchmarks.figures import Figures, percentile
from benchmarks.open_loop import Answered, Sent

_FILLS_S = 2.0  # until the slots are as busy as they will be


def of_load(sent: Sent, duration_s: float, peak_tokens_per_s: float) -> Figures:
    """goodput_percent: tokens of whole answers, of the peak. hinted_percent: refusals that say when to come back."""
    refused = [(one, one.answer) for one in sent.answers if isinstance(one.answer, Refused)]
    goodput = steady_rate(lines_of(sent.answers), sent.begun_s, duration_s)
    figures = latencies(sent) | {"goodput_percent": 100 * goodput / peak_tokens_per_s}
    if refused:
        figures["refusal_p99_ms"] = percentile([1e3 * (answer.done_s - one.due_s) for one, answer in refused], 99)
        figures["hinted_percent"] = 100 * sum("retry-after" in answer.headers for _, answer in refused) / len(refused)
    return figures


def latencies(sent: Sent) -> Figures:
    """Of those that were admitted, and how punctually all were sent."""
    admitted = [(one.due_s, one.answer) for one in sent.answers if isinstance(one.answer, Timeline)]
    first = [1e3 * (line.pieces_s[0] - due_s) for due_s, line in admitted]
    return {
        "requests": float(len(sent.answers)),
        "admitted_percent": 100 * len(admitted) / len(sent.answers),
        "ttft_p50_ms": percentile(first, 50),
        "ttft_p99_ms": percentile(first, 99),
        "latency_p99_ms": percentile([1e3 * (line.pieces_s[-1] - due_s) for due_s, line in admitted], 99),
        "late_p99_ms": percentile([1e3 * (one.answer.sent_s - one.due_s) for one in sent.answers], 99),
        "client_cpu_percent": 100 * sent.client_cpu,
    }


def steady_rate(lines: Sequence[Timeline], begun_s: float, duration_s: float) -> float:
    """Tokens per second that came while new requests did, without the first seconds in which the slots fill."""
    from_s, to_s = begun_s + min(_FILLS_S, duration_s / 2), begun_s + duration_s
    tokens = sum(
        line.tokens * sum(from_s <= piece_s < to_s for piece_s in line.pieces_s) / len(line.pieces_s) for line in lines
    )
    return tokens / (to_s - from_s)


def lines_of(answers: Sequence[Answered]) -> list[Timeline]:
    return [one.answer for one in answers if isinstance(one.answer, Timeline)]


def tokens_by_tenant(answers: Sequence[Answered]) -> dict[str, int]:
    """Of whole answers; 0 for who had none."""
    tokens = {one.who: 0 for one in answers}
    for one in answers:
        if isinstance(one.answer, Timeline):
            tokens[one.who] += one.answer.tokens
    return tokens


def jain(shares: Sequence[float]) -> float:
    """Jain's index of fairness: 1 when all have the same, 1/n when one has all (Jain, Chiu and Hawe, 1984)."""
    return sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares))

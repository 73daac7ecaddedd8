"""Which jobs may be at work in one process together.

Where a process is lost with several jobs in it, nobody knows which of them it was, or whether it was one of them at
all. So it is a failure of none, but from then on each of them is in a process with at most half as many, until it gets
further. One that ends its process again and again is thus soon alone in it, and then it is a failure of its.
"""

from collections import defaultdict
from collections.abc import Collection


class Company:
    """Of the jobs whose processes were lost, by kind; as long as this owner lives."""

    def __init__(self) -> None:
        self._most: defaultdict[str, dict[str, int]] = defaultdict(dict)  # at work with each, itself included

    def lost(self, kind: str, jobs: Collection[str]) -> bool:
        """A process is lost that had these; whether it is a failure of theirs."""
        for job in jobs:
            self._most[kind][job] = max(len(jobs) // 2, 1)
        return len(jobs) == 1

    def clear(self, kind: str, job: str) -> None:
        """It got further, or has ended."""
        self._most[kind].pop(job, None)

    def most(self, kind: str, jobs: Collection[str], places: int) -> int:
        """How many may be at work where these are."""
        suspects = self._most[kind]
        return min((suspects[job] for job in jobs if job in suspects), default=places)

    def suspects(self, kind: str) -> list[tuple[int, list[str]]]:
        """Those that may not be with whomever, by how many they may be with, the most first."""
        groups: defaultdict[int, list[str]] = defaultdict(list)
        for job, most in self._most[kind].items():
            groups[most].append(job)
        return sorted(groups.items(), reverse=True)

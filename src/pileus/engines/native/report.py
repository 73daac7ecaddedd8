"""What one step of the engine has to tell."""

from pileus.core.records import Credit, Emission, Finish, Started, StepOutput


class Report:
    """Of the step that is under way; each list in the order in which it happened."""

    def __init__(self) -> None:
        self.started: list[Started] = []
        self.emissions: list[Emission] = []
        self.finishes: list[Finish] = []

    def output(self, credit: Credit) -> StepOutput:
        """All of it, when the step is over."""
        return StepOutput(tuple(self.started), tuple(self.emissions), tuple(self.finishes), credit)

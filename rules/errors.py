"""What can go wrong in the rules."""


class RuleError(Exception):
    """Input that no rule can judge.

    Args:
        message: what is wrong, in one sentence.
        hint: what to do next.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ReportError(RuleError):
    """A probe report that is damaged or of another shape: never judged, never stored."""

"""What a refusal must be: one sentence that can be printed, with a way out beside it."""

from rules.errors import TunerError
from tuner.errors import exit_code_of

LONGEST = 2000
"""Characters of a message; what it quotes of its input is cut."""


def require_sentence(error: TunerError, longest: int = LONGEST) -> None:
    """Fail unless a refusal has a message, not longer than this, a kind and an exit code."""
    assert error.message.strip(), repr(error)
    assert error.kind
    assert exit_code_of(error)
    assert len(error.message) + len(error.hint) < longest, error.message[:300]
    assert "Traceback" not in error.message

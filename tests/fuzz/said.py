"""What a refusal must be: one sentence that can be printed, with a way out beside it."""

from cache.errors import StoreError
from rules.errors import RuleError
from tuner.errors import TunerError, as_tuner_error

LONGEST = 2000
"""Characters of a message; what it quotes of its input is cut."""


def require_sentence(error: TunerError | StoreError | RuleError, longest: int = LONGEST) -> None:
    """Fail unless a refusal has a message, not longer than this, a kind and an exit code."""
    failure = as_tuner_error(error)
    assert failure.message.strip(), repr(failure)
    assert failure.kind
    assert failure.exit_code
    assert len(failure.message) + len(failure.hint) < longest, failure.message[:300]
    assert "Traceback" not in failure.message

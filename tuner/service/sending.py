"""Stored verdicts on their way to a service, line by line signed or not."""

from collections.abc import Iterable, Iterator, Mapping

from rules.errors import ErrorKind, TunerError
from tuner.exchange.conflict import IN_WORDS, ImportOutcome
from tuner.model.patience import at_most
from tuner.service.client import Client
from tuner.untrusted.json_text import UnusableError, parse_object

MAX_SENT = 16 * 2**20
"""Bytes of lines in one request, unless its first line alone is longer."""
SEND_S = 60.0
"""Seconds that one request may take; the service gives itself as many."""


KEPT_THERE = {
    ImportOutcome.LOCAL: "not stored: a verdict of the same key was probed beside the service, and wins",
    ImportOutcome.UNSAFE: "not stored: a probe beside the service found unsafe what this one calls safe",
    ImportOutcome.OTHER: "not stored: the service has another verdict of the same key; --replace exchanges it",
}
"""What became of a verdict that the service does not take."""


def sent_text(counts: Mapping[ImportOutcome, int]) -> str:
    """One line for each result that some verdict met, those stored first."""
    words = {**IN_WORDS, **KEPT_THERE}
    return "\n".join(f"{counts[result]:>4}  {word}" for result, word in words.items() if counts[result])


def send_lines(client: Client, lines: Iterable[str], *, replace: bool = False) -> dict[ImportOutcome, int]:
    """Send lines to a service, as many requests as it takes; what it stored before a failure stays stored.

    Args:
        client: the service, with the token of a writer.
        lines: those of a bundle, or as `tuner.exchange.sent_line.sign_line` makes them.
        replace: they replace different ones that the service imported before.

    Returns:
        How many lines met each result.

    Raises:
        TunerError: the service cannot be asked, or refuses them.
    """
    path = "/v1/verdicts?replace=true" if replace else "/v1/verdicts"
    counts = dict.fromkeys(ImportOutcome, 0)
    for body in _bodies(lines):
        with at_most(SEND_S):
            answer = client.ask("POST", path, body)
        for result, number in _counted(answer.body, client).items():
            counts[result] += number
    return counts


def _bodies(lines: Iterable[str]) -> Iterator[bytes]:
    parts: list[bytes] = []
    size = 0
    for line in lines:
        data = line.encode()
        if parts and size + len(data) > MAX_SENT:
            yield b"".join(parts)
            parts, size = [], 0
        parts.append(data)
        size += len(data)
    if parts:
        yield b"".join(parts)


def _counted(answer: bytes, client: Client) -> dict[ImportOutcome, int]:
    try:
        imported = parse_object(answer)["imported"]
        return {result: int(imported[result]) for result in ImportOutcome}
    except (UnusableError, KeyError, TypeError, ValueError):
        problem = f"The service {client.name} does not say what became of the verdicts."
        raise TunerError(problem, kind=ErrorKind.SERVICE) from None

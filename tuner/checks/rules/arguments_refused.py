"""Arguments with which vLLM ends at once."""

from collections.abc import Iterator

from rules.releases import RELEASES, parse_version
from tuner.checks.examine import Examined
from tuner.checks.rules.rule import Problem, Rule, Severity, line_of


def _problems(examined: Examined) -> Iterator[Problem]:
    """Every release of the table refuses them; an older one, or one that is not known, may take them."""
    if not examined.refusal or any(word.unknown for word in examined.launch.words):
        return
    line = line_of(examined, "compilation")
    oldest, version = parse_version(RELEASES[0].version), parse_version(examined.version)
    if version and oldest and version.release >= oldest.release:
        yield Problem(examined.refusal, line)
    else:
        message = f"{examined.refusal} vLLM from {RELEASES[0].version} on refuses it."
        yield Problem(message, line, Severity.WARNING)


RULE = Rule(
    "arguments-refused",
    Severity.ERROR,
    "vLLM refuses these arguments: the server does not start.",
    of_launch=_problems,
)

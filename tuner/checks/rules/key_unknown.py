"""A key of the compilation config that this vLLM does not know."""

from collections.abc import Iterator, Sequence

from rules.releases import is_source_build
from tuner.arguments.refusals import SOURCE_BUILD, key_sentences
from tuner.checks.examine import Examined
from tuner.checks.rules.rule import Problem, Rule, Severity, line_of


def _problems(examined: Examined) -> Iterator[Problem]:
    if examined.arguments is None or examined.version is None:
        return
    arguments = examined.arguments
    not_written = [word.text for word in examined.launch.words if word.unknown]
    keys = [key for key in arguments.compilation_config if key not in arguments.dropped]
    for message in key_sentences([key for key in keys if not _is_in(key, not_written)], examined.version):
        line = line_of(examined, "compilation")
        if is_source_build(examined.version):
            yield Problem(f"{message} {SOURCE_BUILD}", line, Severity.WARNING)
        else:
            yield Problem(message, line)


def _is_in(key: str, texts: Sequence[str]) -> bool:
    return any(key in text for text in texts)


RULE = Rule(
    "key-unknown",
    Severity.ERROR,
    "This vLLM does not know a key of the compilation config: the server does not start.",
    of_launch=_problems,
)

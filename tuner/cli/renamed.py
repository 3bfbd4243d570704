"""Words of the command line that were replaced: an old word ends with an error that names the new one."""

from collections.abc import Sequence

from tuner.cli.own_options import SERVE, own_tokens

NEW_WORDS = {
    ("plan", "--strict"): "--fail-on-unknown",
    ("serve", "--strict"): "--fail-on-unknown",
    ("check", "--strict"): "--fail-on-unknown",
    ("check", "--sarif"): "--format sarif",
    ("probe", "--again"): "--force",
    ("cache", "ls"): "list",
    ("verdicts", "keygen"): "minisign -G",
}
"""Command and old word -> what replaces it."""


def renamed_word(argv: Sequence[str]) -> tuple[str, str] | None:
    """The first old word of a command and what replaces it, if any; vLLM's own arguments are not looked at."""
    command, words = "".join(argv[:1]), list(argv[1:])
    if command == "serve":
        own = own_tokens(words, SERVE)
        words = words[own : own + 1]
    elif command in {"cache", "verdicts"}:
        words = words[:1]
    elif "--" in words:
        words = words[: words.index("--")]
    for word in words:
        new = NEW_WORDS.get((command, word))
        if new:
            return word, new
    return None

"""Words of the command line that have another name now: an old one ends with an error that says the new one."""

from collections.abc import Sequence

from tuner.cli.fast_path import SERVE, own_tokens

NEW_WORDS = {
    ("plan", "--strict"): "--fail-on-unknown",
    ("serve", "--strict"): "--fail-on-unknown",
    ("check", "--strict"): "--fail-on-unknown",
    ("probe", "--again"): "--force",
    ("cache", "ls"): "list",
}
"""Command and old word -> new word."""


def renamed_word(argv: Sequence[str]) -> tuple[str, str] | None:
    """The first old word of a command, and its new one; None without any. What is vLLM's is not looked at."""
    command, words = "".join(argv[:1]), list(argv[1:])
    if command == "serve":
        own = own_tokens(words, SERVE)
        words = words[own : own + 1]
    elif command == "cache":
        words = words[:1]
    elif "--" in words:
        words = words[: words.index("--")]
    for word in words:
        new = NEW_WORDS.get((command, word))
        if new:
            return word, new
    return None

"""What this tool itself writes: a job that runs `tuner cache warm`, and shell files of `tuner export --format env`."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from tuner.manifests.launch import Argument, ManifestLaunch
from tuner.manifests.shell.launches import shell_launches

_WARM = ["tuner", "cache", "warm"]
_USE = re.compile(r'^# use: \. \./THIS_FILE && exec vllm serve "\$@"$', re.MULTILINE)
"""How the head of a shell file says that its arguments are used (`as_env` in tuner/exports/file.py)."""
_SET = re.compile(r"^set --", re.MULTILINE)
_SERVE = "vllm serve"


def warm_arguments(vector: Sequence[Argument]) -> tuple[Argument, ...] | None:
    """The model and the arguments of the server whose cache is warmed; None for other commands."""
    texts = [word.text for word in vector]
    if texts[:3] != _WARM or len(texts) == len(_WARM) or texts[3].startswith("-"):
        return None
    behind = texts.index("--") + 1 if "--" in texts else len(texts)
    return (vector[3], *vector[behind:])


def exported_launches(text: str) -> Iterator[ManifestLaunch]:
    """The launch of an exported shell file, whose `set --` is the argument list; none for other files."""
    place = _SET.search(text) if _USE.search(text) else None
    if place is None:
        return
    moved = len(_SERVE) - len(place[0])
    for launch in shell_launches(text[: place.start()] + _SERVE + text[place.end() :], shape="env"):
        words = [replace(word, start=word.start - moved, stop=word.stop - moved) for word in launch.words]
        yield replace(launch, words=tuple(words))

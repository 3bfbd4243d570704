"""The launch in a Dockerfile: ENTRYPOINT and CMD of its last stage."""

import json
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import accumulate

from tuner.manifests.image import parse_image
from tuner.manifests.launch import Argument, ArgumentList, Form, ManifestLaunch
from tuner.manifests.shell import embedded_launches, shell_launches, shell_script, vector_arguments

_INSTRUCTION = re.compile(
    r"^[ \t]*([A-Za-z]+)[ \t]+((?:[^\\\n]|\\[^\n]|\\[ \t]*\n(?:[ \t]*#[^\n]*\n)*)*)", re.MULTILINE
)
_STRING = re.compile(r'"(?:[^"\\\n]|\\[^\n])*"')
_PAIR = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|\S*)')


@dataclass(frozen=True)
class _Vector:
    """An ENTRYPOINT or CMD: where it is written, and its items if it is in exec form."""

    start: int
    stop: int
    words: tuple[Argument, ...] | None


def dockerfile_launches(text: str) -> Iterator[ManifestLaunch]:
    """The launch that the image makes, if it is one of vLLM's."""
    stage: dict[str, _Vector] = {}
    image, image_line = None, 0
    env: dict[str, str | None] = {}
    lines = list(accumulate((len(line) + 1 for line in text.split("\n")), initial=0))
    for match in _INSTRUCTION.finditer(text):
        name, value = match[1].upper(), match[2]
        if name == "FROM":
            words = [word for word in value.split() if not word.startswith("--")]
            image, image_line, stage, env = (words or [None])[0], bisect_right(lines, match.start(1)), {}, {}
        elif name == "ENV":
            env |= _variables(value)
        elif name in {"ENTRYPOINT", "CMD"}:
            stage[name] = _vector(text, match.start(2), match.end(2), lines)
    for launch in _launches(text, stage, image):
        yield replace(launch, image=image, image_line=image_line, env={**env, **launch.env})


def _launches(text: str, stage: dict[str, _Vector], image: str | None) -> Iterator[ManifestLaunch]:
    entry, command = stage.get("ENTRYPOINT"), stage.get("CMD")
    shell = next((vector for vector in (entry, command) if vector is not None and vector.words is None), None)
    if shell is not None:
        yield from shell_launches(text, shell.start, shell.stop, shape="Dockerfile")
        return
    vector = [*(entry.words or () if entry else ()), *(command.words or () if command else ())]
    if script := shell_script(vector):
        yield from embedded_launches(script.text, script.line, shape="Dockerfile")
        return
    words = vector_arguments(vector)
    if words is None and entry is None and command is not None and image and parse_image(image).serves:
        words = tuple(vector)
    if words is not None:
        yield ManifestLaunch("Dockerfile", "", (words or vector)[0].line if vector else 1, words)


def _vector(text: str, start: int, stop: int, lines: list[int]) -> _Vector:
    """The items of the exec form, a JSON array of strings; None for the shell form."""
    written = text[start:stop].replace("\\\n", "  ").strip()
    try:
        items = json.loads(written)
    except ValueError:
        return _Vector(start, stop, None)
    strings = list(_STRING.finditer(text, start, stop))
    if not isinstance(items, list) or len(strings) != len(items) or not all(isinstance(item, str) for item in items):
        return _Vector(start, stop, None)
    owner = ArgumentList(Form.JSON, start)
    words = [
        Argument(item, bisect_right(lines, match.start()), match.start(), match.end(), owner)
        for item, match in zip(items, strings, strict=True)
    ]
    return _Vector(start, stop, tuple(words))


def _variables(value: str) -> dict[str, str | None]:
    """`NAME=value …`, or `NAME value`."""
    pairs: dict[str, str | None] = {match[1]: match[2].strip('"') for match in _PAIR.finditer(value)}
    name, _, rest = value.strip().partition(" ")
    return pairs or {name: rest.strip()}

"""The launch in a Dockerfile: ENTRYPOINT and CMD of its last stage."""

import json
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import accumulate

from tuner.manifests.image import parse_image
from tuner.manifests.launch import Argument, ArgumentList, Form, ManifestLaunch
from tuner.manifests.shell.launches import embedded_launches, shell_launches, shell_script, vector_arguments

INSTRUCTION = re.compile(r"^[ \t]*([A-Za-z]+)[ \t]+((?:[^\\\n]|\\[^\n]|\\[ \t]*\n(?:[ \t]*#[^\n]*\n)*)*)", re.MULTILINE)
"""An instruction: its name in any case, and its value with the lines that a backslash continues."""
_STRING = re.compile(r'"(?:[^"\\\n]|\\[^\n])*"')
_PAIRS = re.compile(r"[\\\s]*([A-Za-z_][\w.-]*)=")
_VALUE = re.compile(r'(?:"(?:[^"\\]|\\.)*"|\'[^\']*\'|\\\S|[^\s"\'\\])*', re.DOTALL)


@dataclass(frozen=True)
class _Vector:
    """An ENTRYPOINT or CMD: where it is written, and its items if it is in exec form."""

    start: int
    stop: int
    words: tuple[Argument, ...] | None


@dataclass(frozen=True)
class _Stage:
    """What a build stage has set so far.

    Attributes:
        image: the image that the first of the stages it builds upon starts from.
        image_line: where that is named.
        entrypoint: the last ENTRYPOINT; None if there is none.
        command: the last CMD that counts; None if there is none.
        inherited: the CMD is that of the stage it builds upon.
        env: its variables.
    """

    image: str | None = None
    image_line: int = 0
    entrypoint: _Vector | None = None
    command: _Vector | None = None
    inherited: bool = False
    env: dict[str, str | None] = field(default_factory=dict)


def dockerfile_launches(text: str) -> Iterator[ManifestLaunch]:
    """The launch that the image makes, if it is one of vLLM's."""
    lines = list(accumulate((len(line) + 1 for line in text.split("\n")), initial=0))
    stages: dict[str, _Stage] = {}
    name, stage = "", _Stage()
    for match in INSTRUCTION.finditer(text):
        instruction, value = match[1].upper(), match[2]
        if instruction == "FROM":
            base, name = _base(value)
            line = bisect_right(lines, match.start(1))
            stage = replace(stages.get(base.lower()) or _Stage(base or None, line), inherited=True)
        elif instruction == "ENV":
            stage = replace(stage, env=stage.env | _variables(value))
        elif instruction == "ENTRYPOINT":
            # An ENTRYPOINT takes back the CMD of the image below ("Understand how CMD and ENTRYPOINT interact").
            command = None if stage.inherited else stage.command
            stage = replace(stage, entrypoint=_vector(text, match, lines), command=command)
        elif instruction == "CMD":
            stage = replace(stage, command=_vector(text, match, lines), inherited=False)
        stages[name.lower()] = stage
    for launch in _launches(text, stage):
        yield replace(launch, image=stage.image, image_line=stage.image_line, env={**stage.env, **launch.env})


def _base(value: str) -> tuple[str, str]:
    """The image or stage behind FROM, and the name of the stage; empty where there is none."""
    words = [word for word in value.split() if not word.startswith("--")]
    name = next((words[index + 1] for index in range(1, len(words) - 1) if words[index].upper() == "AS"), "")
    return (words[0] if words else ""), name


def _launches(text: str, stage: _Stage) -> Iterator[ManifestLaunch]:
    for written in (stage.entrypoint, stage.command):
        if written is not None and written.words is None:
            yield from shell_launches(text, written.start, written.stop, shape="Dockerfile")
            return
    vector = [*_words(stage.entrypoint), *_words(stage.command)]
    script = shell_script(vector)
    if script is not None:
        yield from embedded_launches(script.text, script.line, shape="Dockerfile")
        return
    words = vector_arguments(vector)
    if words is None and _is_served_by_base(stage):
        words = tuple(vector)
    if words is not None:
        first = [*words, *vector][:1]
        yield ManifestLaunch("Dockerfile", "", first[0].line if first else stage.image_line, words)


def _words(vector: _Vector | None) -> tuple[Argument, ...]:
    return vector.words or () if vector is not None else ()


def _is_served_by_base(stage: _Stage) -> bool:
    """Whether the CMD is what the entrypoint of an image that serves takes."""
    if stage.entrypoint is not None or stage.command is None or stage.image is None:
        return False
    return parse_image(stage.image).serves


def _vector(text: str, match: re.Match[str], lines: list[int]) -> _Vector:
    """The items of the exec form, a JSON array of strings; None for the shell form."""
    start, stop = match.span(2)
    written = text[start:stop].replace("\\\n", "  ").strip()
    try:
        items = json.loads(written)
    except (ValueError, RecursionError):
        return _Vector(start, stop, None)
    strings = list(_STRING.finditer(text, start, stop))
    if not isinstance(items, list) or len(strings) != len(items) or not all(isinstance(item, str) for item in items):
        return _Vector(start, stop, None)
    owner = ArgumentList(Form.JSON, start)
    words = [
        Argument(item, bisect_right(lines, string.start()), string.start(), string.end(), owner)
        for item, string in zip(items, strings, strict=True)
    ]
    return _Vector(start, stop, tuple(words))


def _variables(value: str) -> dict[str, str | None]:
    """`NAME=value …`, or `NAME value`; None for a value with a variable."""
    pairs: dict[str, str | None] = {}
    name = _PAIRS.match(value)
    while name is not None:
        written = _VALUE.match(value, name.end())
        end = written.end() if written else name.end()
        pairs[name[1]] = _stated(value[name.end() : end])
        name = _PAIRS.match(value, end)
    if pairs:
        return pairs
    variable, _, written_value = value.strip().partition(" ")
    return {variable: _stated(written_value.strip())}


def _stated(written: str) -> str | None:
    """A value without quotes; None if it holds a variable."""
    if "$" in written:
        return None
    quoted = len(written) > 1 and written[0] == written[-1] and written[0] in "\"'"
    return written[1:-1] if quoted else written

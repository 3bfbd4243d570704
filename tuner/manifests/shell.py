"""Launches in shell text: `vllm serve …`, vLLM's server module under a Python, `docker run` of an image that serves."""

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, takewhile

from tuner.manifests.image import parse_image
from tuner.manifests.launch import Argument, ArgumentList, Form, ManifestLaunch
from tuner.manifests.lexer import Piece, Token, commands

SERVER_MODULE = "vllm.entrypoints.openai.api_server"
DYNAMO_MODULE = "dynamo.vllm"
"""Dynamo's worker, which takes the arguments of vLLM's engine."""
CLI_MODULE = "vllm.entrypoints.cli.main"
_ASSIGNMENT = re.compile(r"(\w+)=(.*)", re.DOTALL)
_PYTHON = re.compile(r"(?:.*/)?(?:python(?:[\d.]+)?|\$\{?PYTHON\w*\}?)")
_STARTERS = re.compile(
    r"\$|env|exec|eval|nohup|sudo|time|nice|ionice|stdbuf|setsid|command|numactl|taskset|timeout|uv|uvx|poetry|conda"
    r"|pixi|tini|dumb-init|then|do|else|!|\{|RUN|CMD|ENTRYPOINT"
)
"""Words before a command that start it, and keywords of bash; the last are a Dockerfile's, in documents."""
_SHELLS = re.compile(r"(?:.*/)?(?:ba|da|z|k)?sh")
_ALL_OF = re.compile(r"\$+\{?!?[@*]|\[[@*]\]")
"""A substitution by any number of words, quoted or not: all arguments of a script, all items of an array."""
_HIDES = re.compile(rf"{_ALL_OF.pattern}|ARGS|OPTS|OPTIONS|EXTRA|FLAGS|PARAMS|CMD|_CONFIG\b", re.IGNORECASE)
_ELLIPSIS = frozenset({"...", "…", "[...]", "<...>"})
_NO_LAUNCH = frozenset({"--help", "-h", "--version"})
_DOCKER_VALUES = re.compile(
    r"-[evpwuhlm]|--(?:env|volume|publish|name|gpus|device|network|net|ipc|shm-size|group-add|cap-add|security-opt"
    r"|entrypoint|workdir|user|runtime|memory|cpus|env-file|mount|restart|hostname|ulimit|label|pull|platform|add-host"
    r"|pid|tmpfs|userns|log-opt|log-driver|cpuset-cpus)"
)
"""Options of `docker run` whose value stands behind them (docker's reference of the command)."""
_FLAGS = frozenset({"--trust-remote-code", "--enforce-eager", "--enable-expert-parallel", "--headless", "--omni"})


def line_of(text: str, offset: int) -> int:
    """The line of an offset, from 1."""
    return text.count("\n", 0, offset) + 1


def shell_launches(
    text: str,
    start: int = 0,
    stop: int | None = None,
    *,
    folded: bool = False,
    shape: str = "shell",
    variables: Mapping[str, str | None] | None = None,
    composed: bool = False,
) -> Iterator[ManifestLaunch]:
    """The launches in shell text that stands in a file as it is.

    Args:
        text: the file.
        start: where the shell text begins.
        stop: where it ends; None: at the file's end.
        folded: as for `tuner.manifests.lexer.commands`.
        shape: what the launches are called.
        variables: those that are set where the text runs.
        composed: as for `tuner.manifests.lexer.commands`.
    """
    lines = list(accumulate((len(line) for line in text.split("\n")), lambda a, b: a + b + 1, initial=0))
    values = _updated({}, variables or {})
    exported: dict[str, str | None] = {}
    for tokens in commands(text, start, stop, folded=folded, composed=composed):
        assigned, rest = _assignments(tokens, values)
        if not rest or rest[0].text() == "export":
            added = assigned | _assignments(rest[1:], values)[0]
            exported |= added if rest else {}
            values = _updated(values, added)
            continue
        line = bisect_right(lines, rest[0].start)
        launch = _launch(rest, values, shape)
        if launch is not None:
            owner = ArgumentList(Form.SHELL, tokens[0].start)
            words = tuple(replace(word, line=bisect_right(lines, word.start), owner=owner) for word in launch.words)
            yield replace(launch, words=words, line=line, env=exported | assigned | dict(launch.env), image_line=line)
        elif script := shell_script([Argument(token.text(values), line) for token in rest]):
            yield from embedded_launches(script.text, line, shape=shape, variables=values, composed=composed)


def embedded_launches(
    script: str,
    line: int,
    *,
    shape: str,
    variables: Mapping[str, str | None] | None = None,
    composed: bool = False,
) -> Iterator[ManifestLaunch]:
    """The launches in shell text that is written in another form, such as a quoted string: they cannot be edited."""
    for launch in shell_launches(script, shape=shape, variables=variables, composed=composed):
        words = tuple(replace(word, line=line, owner=None) for word in launch.words)
        yield replace(launch, words=words, line=line, image_line=line)


def vector_arguments(vector: Sequence[Argument]) -> tuple[Argument, ...] | None:
    """The arguments behind `vllm serve` in an argument vector; None if it launches something else."""
    texts = [word.text for word in vector]
    at = _behind_launch(texts)
    return None if at is None else tuple(vector[at:])


def shell_script(vector: Sequence[Argument]) -> Argument | None:
    """The script in `sh -c SCRIPT`, whatever stands before it, such as `docker run IMAGE`; None if there is none."""
    shell = next((index for index, word in enumerate(vector) if _SHELLS.fullmatch(word.text)), len(vector))
    for index in range(shell + 1, len(vector) - 1):
        if not vector[index].text.startswith("-"):
            return None
        if re.fullmatch(r"-[a-z]*c", vector[index].text):
            return vector[index + 1]
    return None


def _hides_arguments(words: Sequence[Argument], whole: Sequence[bool]) -> str:
    """The first word that may stand for arguments that are not written here; empty if there is none.

    A substitution behind an option is its value. Its name, an array, or a flag before it says otherwise.
    """
    for index, word in enumerate(words):
        before = words[index - 1].text if index else None
        if word.text in _ELLIPSIS or (word.unknown and _may_be_several(word.text, before, alone=whole[index])):
            return word.text
    return ""


def _may_be_several(text: str, before: str | None, *, alone: bool) -> bool:
    """Whether a word that holds a substitution may stand for several arguments.

    Args:
        text: the word.
        before: the argument in front of it; None if it is the first, and so the model.
        alone: it is one substitution and nothing else.
    """
    if _ALL_OF.search(text):
        return True
    if not alone:
        return False
    value = before is None or (before.startswith("-") and "=" not in before and before not in _FLAGS)
    return not value or bool(_HIDES.search(text))


def _assignments(tokens: Sequence[Token], variables: dict[str, str]) -> tuple[dict[str, str | None], list[Token]]:
    """The assignments in front of a command, and the command."""
    assigned: dict[str, str | None] = {}
    for index, token in enumerate(tokens):
        match = _ASSIGNMENT.fullmatch(token.text(variables))
        if match is None or token.parts[:1] == [Piece("", substituted=True)]:
            return assigned, list(tokens[index:])
        assigned[match[1]] = None if token.unknown(variables) else match[2]
    return assigned, []


def _updated(variables: Mapping[str, str], assigned: Mapping[str, str | None]) -> dict[str, str]:
    """The variables after an assignment; one whose new value cannot be seen here is left out."""
    values = dict(variables)
    for name, value in assigned.items():
        if value is None:
            values.pop(name, None)
        else:
            values[name] = value
    return values


def _launch(tokens: Sequence[Token], variables: dict[str, str], shape: str) -> ManifestLaunch | None:
    texts = [token.text(variables) for token in tokens]
    env: dict[str, str | None] = {}
    image = None
    at = _behind_launch(texts)
    if at is None and re.search(r"(?:^|/)(?:docker|podman|nerdctl)$", _program(texts)):
        container = _container_launch(texts)
        if container is None:
            return None
        at, image, env = container
    if at is None:
        return None
    behind = tokens[at:]
    if _NO_LAUNCH.intersection(texts[at:]) or _is_prose(texts[at:]):
        return None
    words: list[Argument] = []
    for token in behind:
        unknown = _unknown(token, variables)
        words.append(Argument(token.text(variables), 0, token.start, token.stop, None, unknown))
    hidden = _hides_arguments(words, [token.whole for token in behind])
    broken = next((token.text() for token in behind if token.broken), "")
    return ManifestLaunch(shape, "", 0, tuple(words), image=image, env=env, hidden=hidden or broken)


def _is_prose(texts: Sequence[str]) -> bool:
    """More bare words than the one that vLLM takes stand before any option: a sentence about `vllm serve`."""
    bare = takewhile(lambda text: not text.startswith(("-", "$")) and text not in _ELLIPSIS, texts)
    return len(list(bare)) > 1


def _unknown(token: Token, variables: dict[str, str]) -> bool:
    """Whether it is not known which word, or how many, a token stands for."""
    substituted = any(piece.substituted for piece in token.parts)
    split = substituted and not token.quoted and len(token.text(variables).split()) != 1
    return split or token.unknown(variables)


def _program(texts: Sequence[str]) -> str:
    return next((text for text in texts if not _STARTERS.fullmatch(text)), "")


def _behind_launch(texts: Sequence[str]) -> int | None:
    """Index behind `vllm serve`, or behind its server module, where a command starts with it."""
    index = 0
    started = False
    while index < len(texts):
        text, behind = texts[index], list(texts[index + 1 : index + 3])
        if re.fullmatch(r"(?:.*/)?vllm", text):
            return index + 2 if behind[:1] == ["serve"] else None
        if _PYTHON.fullmatch(text):
            return _behind_module(texts, index + 1)
        if _STARTERS.fullmatch(text) or _ASSIGNMENT.fullmatch(text):
            started = True
        elif not started:
            return None
        index += 1
    return None


def _behind_module(texts: Sequence[str], index: int) -> int | None:
    """Index behind `-m MODULE` of vLLM's, options of Python before it; or behind a `vllm` script and `serve`."""
    while index < len(texts) and texts[index].startswith("-") and texts[index] != "-m":
        index += 1
    module = list(texts[index : index + 3])
    if module[:1] == ["-m"] and module[1:2] in ([SERVER_MODULE], [DYNAMO_MODULE]):
        return index + 2
    if module in (["-m", CLI_MODULE, "serve"], ["-m", "vllm", "serve"]):
        return index + 3
    return None


def _container_launch(texts: Sequence[str]) -> tuple[int, str, dict[str, str | None]] | None:
    """As `_container_run`, but the index is that of the launch's first argument; None if nothing is served."""
    run = _container_run(texts)
    if run is None:
        return None
    at, image, env = run
    if parse_image(image).serves and "--entrypoint" not in texts[:at]:
        return run
    inner = _behind_launch(texts[at:])
    return None if inner is None else (at + inner, image, env)


def _container_run(texts: Sequence[str]) -> tuple[int, str, dict[str, str | None]] | None:
    """Of `docker run`: index behind the image, the image, and the variables that it sets; None for other commands."""
    if "run" not in texts:
        return None
    index = texts.index("run") + 1
    env: dict[str, str | None] = {}
    while index < len(texts):
        text = texts[index]
        if not text.startswith("-"):
            return index + 1, text, env
        name, equals, value = text.partition("=")
        if not equals and _DOCKER_VALUES.fullmatch(name):
            index += 1
            value = texts[index] if index < len(texts) else ""
        if name in {"-e", "--env"}:
            env |= _stated_variable(value)
        index += 1
    return None


def _stated_variable(text: str) -> dict[str, str | None]:
    """The variable that `NAME=VALUE` sets, its value None where a shell would substitute; empty for a name alone."""
    match = _ASSIGNMENT.fullmatch(text)
    if match is None:
        return {}
    return {match[1]: None if "$" in match[2] else match[2]}

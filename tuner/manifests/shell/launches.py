"""Launches in shell text: `vllm serve …`, vLLM's server module under a Python, `docker run` of an image that serves."""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, takewhile

from tuner.manifests.container_options import ContainerOption, pod_of_options
from tuner.manifests.image import parse_image
from tuner.manifests.launch import Argument, ArgumentList, Form, ManifestLaunch, Pod, Runtime
from tuner.manifests.shell.container_run import ContainerRun, container_run
from tuner.manifests.shell.lexer import Document, Token, split
from tuner.manifests.shell.programs import (
    ELLIPSIS,
    NO_LAUNCH,
    behind_launch,
    is_prose,
    is_quiet,
    script_index,
    text_indexes,
)
from tuner.manifests.shell.variables import Value, Variables
from tuner.manifests.shell.words import Word, evaluated, words_of

MAX_SCRIPTS = 5
"""Scripts in one another, such as `bash -c "ssh node 'vllm serve m'"`; deeper ones are not read."""
_ALL_OF = re.compile(r"\$+\{?!?[@*]|\[[@*]\]")
"""A substitution by any number of words, quoted or not: all arguments of a script, all items of an array."""
_HIDES = re.compile(rf"{_ALL_OF.pattern}|ARGS|OPTS|OPTIONS|EXTRA|FLAGS|PARAMS|CMD|_CONFIG\b", re.IGNORECASE)
_OPTION = re.compile(r"\A--[\w-]+=")
"""What stands in front of a script that is an option's value, as in `sbatch --wrap='vllm serve m'`."""
_ESCAPED = re.compile(r"\\([\\$`])")
"""What a backslash protects in a here-document whose delimiter is not quoted (POSIX 2.7.4)."""
_ELSEWHERE = frozenset({"ssh", "pdsh", "docker", "podman", "nerdctl", "kubectl", "oc", "sudo", "su", "runuser"})
"""Programs whose command does not have the variables of the shell that runs them, or not all."""
_ADDING = frozenset({"xargs", "parallel"})
"""Programs that add arguments to the command that they run, or put them in for `{}`."""
_INPUTS = re.compile(r":{3,4}\+?")
"""Stands in front of what GNU parallel adds."""
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
        folded: as for `tuner.manifests.lexer.split`.
        shape: what the launches are called.
        variables: those that are set where the text runs.
        composed: as for `tuner.manifests.lexer.split`.
    """
    reader = _Reader(text, _lines(text), shape, folded, composed, (variables or {}).get)
    yield from reader.launches(start, len(text) if stop is None else stop)


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
        pod = launch.pod.placed(lambda _: line) if launch.pod else None
        yield replace(launch, words=words, line=line, image_line=line, pod=pod)


def vector_arguments(vector: Sequence[Argument]) -> tuple[Argument, ...] | None:
    """The arguments behind `vllm serve` in an argument vector; None if it launches something else."""
    at = behind_launch([word.text for word in vector])
    return None if at is None else tuple(vector[at:])


def shell_script(vector: Sequence[Argument]) -> Argument | None:
    """The script in `sh -c SCRIPT`, whatever stands before it, such as `docker run IMAGE`; None if there is none."""
    index = script_index([word.text for word in vector])
    return None if index is None else vector[index]


@dataclass(frozen=True)
class _Reader:
    """A text, and what its launches are called.

    Attributes:
        text: the file.
        lines: offset of each of its lines, and of its end.
        shape: what the launches are called.
        folded: as for `tuner.manifests.lexer.split`.
        composed: as for `tuner.manifests.lexer.split`.
        outside: the value of a variable before the text; None if it is not known.
        depth: how many scripts the text stands in.
        filled: another shell substitutes in the text before it runs, as in a here-document.
    """

    text: str
    lines: list[int]
    shape: str
    folded: bool
    composed: bool
    outside: Callable[[str], str | None]
    depth: int = 0
    filled: bool = False

    def launches(self, start: int, stop: int) -> Iterator[ManifestLaunch]:
        """The launches between two offsets."""
        text_commands = list(split(self.text, start, stop, folded=self.folded, composed=self.composed))
        variables = Variables(text_commands, self.outside, _not_known if self.filled else evaluated)
        for command in text_commands:
            tokens = variables.enter(command)
            yield from self._of_command(tokens, variables)
            for document in command.documents:
                yield from self._of_document(document, variables)
            variables.leave(tokens)

    def _line(self, offset: int) -> int:
        return bisect_right(self.lines, offset)

    def _of_command(self, tokens: list[Token], variables: Variables) -> Iterator[ManifestLaunch]:
        """The launches of a simple command: its own, or those of a script that it runs."""
        assignments = list(takewhile(lambda token: bool(token.name), tokens))
        words = [word for token in tokens[len(assignments) :] for word in words_of(token, variables)]
        texts = [word.text for word in words]
        if not words or is_quiet(texts):
            return
        run = container_run(words)
        env = variables.environment() | {token.name: _text(evaluated(token, variables)) for token in assignments}
        env = dict(run.env) if run is not None else env
        image = run.image if run is not None else None
        inner = words if run is None else run.command
        pod = self._pod(run) if run is not None else None
        launches = list(self._of_scripts(inner, _outside_of_scripts(texts, run, variables)))
        if not launches:
            launch = self._launch(words, inner, run, ArgumentList(Form.SHELL, tokens[0].start))
            launches = [launch] if launch is not None else []
        for launch in launches:
            own = launch.image is not None
            yield replace(
                launch,
                env=launch.env if own else env | dict(launch.env),
                image=launch.image if own else image,
                image_line=launch.image_line if own else launch.line,
                pod=launch.pod if own else pod,
            )

    def _pod(self, run: ContainerRun) -> Pod | None:
        """What the options of a container state; None where some of them are hidden."""
        if run.hidden:
            return None
        options = [ContainerOption(name, word.text, self._line(word.start)) for name, word in run.options]
        command = [word.text for word in run.command]
        return pod_of_options(options, command, run.env, runtime=Runtime.COMMAND, podman=run.podman)

    def _launch(
        self, words: list[Word], inner: list[Word], run: ContainerRun | None, owner: ArgumentList
    ) -> ManifestLaunch | None:
        """The launch that a command is; None if it is none.

        Args:
            words: the command.
            inner: what runs in the container, where it runs one, and else the command.
            run: the container.
            owner: the command as an argument list.
        """
        texts = [word.text for word in inner]
        at = behind_launch(texts)
        if at is None and run is not None and run.entrypoint is None and parse_image(run.image).serves:
            at = 0
        if at is None or NO_LAUNCH.intersection(texts[at:]) or is_prose(texts[at:]):
            return None
        adder = next((text for text in texts[:at] if text.rpartition("/")[2] in _ADDING), "")
        behind = list(takewhile(lambda word: not (adder and _INPUTS.fullmatch(word.text)), inner[at:]))
        arguments = tuple(self._argument(word, owner) for word in behind)
        broken = next((word.text for word in behind if word.broken), "")
        starter = inner[at - 1] if at else words[0]
        elsewhere = starter.list_start >= 0 or not starter.written
        line = self._line(starter.start if elsewhere else words[0].start)
        return ManifestLaunch(self.shape, "", line, arguments, hidden=_hides_arguments(behind) or broken or adder)

    def _argument(self, word: Word, owner: ArgumentList) -> Argument:
        if not word.written:
            own = None
        elif word.list_start < 0:
            own = owner
        else:
            own = ArgumentList(Form.SHELL, word.list_start)
        unknown = word.unknown or (self.filled and "$" in word.text)
        return Argument(word.text, self._line(word.start), word.start, word.stop, own, unknown)

    # ---- scripts in words, and documents

    def _of_scripts(self, words: list[Word], outside: Callable[[str], str | None]) -> Iterator[ManifestLaunch]:
        """The launches of the scripts that a command gives to a shell; they cannot be edited.

        Args:
            words: the command.
            outside: the value that a variable has where the scripts run; None if it is not known.
        """
        texts = [word.text for word in words]
        index = script_index(texts)
        if texts[:1] == ["eval"]:
            scripts = [words[1]._replace(text=" ".join(texts[1:]), written=False)] if words[1:] else []
        else:
            places = [index] if index is not None else text_indexes(texts)
            scripts = [words[place]._replace(text=_OPTION.sub("", texts[place])) for place in places]
        for script in scripts:
            if "vllm" in script.text and self.depth < MAX_SCRIPTS:
                yield from self._of_script(script, _not_known if script.unknown else outside)

    def _of_script(self, script: Word, outside: Callable[[str], str | None]) -> Iterator[ManifestLaunch]:
        """The launches of a script in a word. Its lines are those of the file where it is quoted as it is."""
        start, stop = script.start + 1, script.stop - 1
        inside = replace(self, outside=outside, depth=self.depth + 1)
        last = self._line(max(script.start, script.stop - 1))
        if self.text[script.start] == "'" and self.text[start:stop] == script.text:
            launches, before = inside.launches(start, stop), 0
        else:
            launches, before = inside.launches_of(script.text), self._line(script.start) - 1
        yield from _not_edited(launches, before, last)

    def launches_of(self, text: str) -> Iterator[ManifestLaunch]:
        """The launches of another text; their lines are the text's own."""
        return replace(self, text=text, lines=_lines(text)).launches(0, len(text))

    def _of_document(self, document: Document, variables: Variables) -> Iterator[ManifestLaunch]:
        """The launches in a here-document, which is a script of its own.

        The shell puts its variables in before, and what the document itself assigns comes later, unless the delimiter
        is quoted.
        """
        if self.depth >= MAX_SCRIPTS or "vllm" not in self.text[document.start : document.stop]:
            return
        outside = _not_known if document.verbatim else variables.text
        inside = replace(self, outside=outside, depth=self.depth + 1, filled=not document.verbatim)
        source = self.text[document.start : document.stop]
        unescaped = source if document.verbatim else _ESCAPED.sub(r"\1", source)
        if unescaped == source:
            yield from inside.launches(document.start, document.stop)
        else:
            before, last = self._line(document.start) - 1, self._line(document.stop)
            yield from _not_edited(inside.launches_of(unescaped), before, last)


def _not_edited(launches: Iterable[ManifestLaunch], before: int, last: int) -> Iterator[ManifestLaunch]:
    """Launches that cannot be edited where they stand.

    Args:
        launches: the launches, with the lines of their own text.
        before: lines of the file in front of that text.
        last: the last line of the file that they may be in.
    """

    def line_of(line: int) -> int:
        return min(before + line, last)

    for launch in launches:
        words = tuple(replace(word, line=line_of(word.line), owner=None) for word in launch.words)
        line = line_of(launch.line)
        pod = launch.pod.placed(line_of) if launch.pod else None
        yield replace(launch, words=words, line=line, image_line=line, pod=pod)


def _outside_of_scripts(
    texts: Sequence[str], run: ContainerRun | None, variables: Variables
) -> Callable[[str], str | None]:
    """The variables where the scripts of a command run: in its container, with another user or machine, or here."""
    if run is not None:
        return run.env.get
    elsewhere = any(text.rpartition("/")[2] in _ELSEWHERE for text in texts)
    return _not_known if elsewhere else variables.exported_text


def _not_known(*_: object) -> None:
    """Stands where variables are not followed: no value is known."""


def _lines(text: str) -> list[int]:
    """The offset of each line of a text, and of its end."""
    return list(accumulate((len(line) + 1 for line in text.split("\n")), initial=0))


def _text(value: Value | None) -> str | None:
    return value.text if value is not None and value.items is None and not value.unknown else None


def _hides_arguments(words: Sequence[Word]) -> str:
    """The first word that may stand for arguments that are not written here; empty if there is none.

    A substitution behind an option is its value. Its name, an array, or a flag before it says otherwise.
    """
    for index, word in enumerate(words):
        before = words[index - 1].text if index else None
        if word.text in ELLIPSIS or word.several or (word.unknown and _may_be_several(word, before)):
            return word.text
    return ""


def _may_be_several(word: Word, before: str | None) -> bool:
    """Whether a word that holds a substitution may stand for several arguments.

    Args:
        word: the word.
        before: the argument in front of it; None if it is the first, and so the model.
    """
    if _ALL_OF.search(word.text):
        return True
    if not word.alone:
        return False
    value = before is None or (before.startswith("-") and "=" not in before and before not in _FLAGS)
    return not value or bool(_HIDES.search(word.text))

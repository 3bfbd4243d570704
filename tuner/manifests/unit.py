"""Launches in systemd units: `ExecStart=` of a service, and `Exec=` of a Quadlet container.

systemd.service(5), systemd.exec(5) for the variables, and podman-systemd.unit(5) for Quadlet.
"""

import shlex
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate

from tuner.manifests.container_options import ContainerOption, pod_of_options
from tuner.manifests.image import parse_image
from tuner.manifests.launch import Argument, ArgumentList, Form, ManifestLaunch, Runtime
from tuner.manifests.shell.launches import embedded_launches, shell_script, vector_arguments
from tuner.manifests.unit_text import Entry, UnitWord, counted_entries, filled, size_filled, specified, words_of
from tuner.manifests.yaml.kubernetes import hidden_in

_PREFIXES = "@-:+!|"
"""Characters in front of a program: `@` names it otherwise, `:` leaves variables alone, others are of permissions."""
_FROM_FILES = ("VLLM_CACHE_ROOT", "XDG_CACHE_HOME", "HOME")
"""Variables that this tool asks for, and that a file of variables may set."""
_OPTIONS = {
    "AddDevice": "device",
    "EnvironmentFile": "env-file",
    "EnvironmentHost": "env-host",
    "HealthCmd": "health-cmd",
    "HealthInterval": "health-interval",
    "HealthRetries": "health-retries",
    "HealthStartPeriod": "health-start-period",
    "Mount": "mount",
    "Network": "network",
    "Pod": "pod",
    "PublishPort": "publish",
    "ShmSize": "shm-size",
    "Tmpfs": "tmpfs",
    "User": "user",
    "UserNS": "userns",
    "Volume": "volume",
}
"""Entries of a Quadlet container by the option of `podman run` that they become (podman-systemd.unit(5))."""
_SHORT = {"-e": "env", "-p": "publish", "-u": "user", "-v": "volume"}
_MAX_FILLED = 2**20
"""Characters of variables that all commands of a unit may take in."""


class _Unit:
    """A unit's text, and what of it counts so far."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._lines = list(accumulate((len(line) + 1 for line in text.split("\n")), initial=0))
        self._room = _MAX_FILLED
        self._entries = counted_entries(text)

    def all(self, section: str, name: str) -> list[Entry]:
        return self._entries.get((section, name), [])

    def last(self, section: str, name: str) -> Entry | None:
        values = self.all(section, name)
        return values[-1] if values else None

    def value(self, entry: Entry | None) -> str | None:
        """The value of an entry as one text; None if it holds a specifier."""
        if entry is None:
            return None
        text, unknown = specified(self.text[entry.start : entry.stop].strip())
        return None if unknown else text

    def line(self, offset: int) -> int:
        return bisect_right(self._lines, offset)

    def environment(self, section: str) -> dict[str, str | None]:
        """The variables of a section; None where a specifier, or a file of variables, may say otherwise."""
        env: dict[str, str | None] = {}
        for entry in self.all(section, "Environment"):
            for word in words_of(self.text, entry):
                name, _, value = word.text.partition("=")
                text, unknown = specified(value)
                env[name] = None if unknown else text
        if self.all(section, "EnvironmentFile"):
            env = dict.fromkeys([*_FROM_FILES, *env])
        return env

    def arguments(
        self, words: Sequence[UnitWord], owner: ArgumentList, env: dict[str, str | None] | None
    ) -> list[Argument]:
        """Words of a command as arguments; `env` fills in variables, None leaves them alone."""
        arguments: list[Argument] = []
        for word in words:
            text, unknown = specified(word.text)
            self._room -= size_filled(text, env or {})
            unknown = unknown or self._room < 0
            parts = [(text, unknown)] if unknown or env is None else filled(text, env)
            for part, part_unknown in parts:
                place = owner if len(parts) == 1 else None
                line = self.line(word.start)
                arguments.append(Argument(part, line, word.start, word.stop, place, part_unknown))
        return arguments


def unit_launches(text: str) -> Iterator[ManifestLaunch]:
    """The launches of a service, or of a Quadlet container."""
    unit = _Unit(text)
    env = unit.environment("Service")
    for entry in unit.all("Service", "ExecStart"):
        for words in _commands(words_of(text, entry)):
            yield from _service_launches(unit, entry, words, env)
    yield from _container_launches(unit)


def _commands(words: Sequence[UnitWord]) -> Iterator[list[UnitWord]]:
    """The commands of one line; a `;` that is a word stands between two of them."""
    command: list[UnitWord] = []
    for word in words:
        if word.text == ";" and word.stop - word.start == 1:
            yield command
            command = []
        else:
            command.append(word)
    yield command


def _service_launches(
    unit: _Unit, entry: Entry, words: list[UnitWord], env: dict[str, str | None]
) -> Iterator[ManifestLaunch]:
    if not words:
        return
    program = words[0].text.lstrip(_PREFIXES)
    prefix = words[0].text.removesuffix(program)
    behind = words[2:] if "@" in prefix else words[1:]
    owner = ArgumentList(Form.SHELL, entry.start)
    vector = [
        Argument(program, unit.line(words[0].start), words[0].start, words[0].stop),
        *unit.arguments(behind, owner, None if ":" in prefix else env),
    ]
    yield from _vector_launches(vector, ManifestLaunch("systemd", "", vector[0].line, (), env=env))


def _vector_launches(vector: list[Argument], surroundings: ManifestLaunch) -> Iterator[ManifestLaunch]:
    """The launches of an argument vector: its own, that of its script, or that of the container that it runs."""
    words = vector_arguments(vector)
    script = shell_script(vector)
    line = surroundings.line
    if words is not None:
        yield replace(surroundings, words=words, hidden=hidden_in(words))
    elif script is not None:
        for launch in embedded_launches(script.text, script.line, shape=surroundings.shape, variables=surroundings.env):
            env = {**surroundings.env, **launch.env}
            yield replace(surroundings, line=launch.line, words=launch.words, hidden=launch.hidden, env=env)
    else:
        for launch in embedded_launches(shlex.join(word.text for word in vector), line, shape=surroundings.shape):
            # The arguments of a container are the last words of the command that runs it.
            own = vector[len(vector) - len(launch.words) :]
            if [word.text for word in own] == list(launch.args):
                yield replace(launch, words=tuple(own), hidden=hidden_in(own))


def _container_launches(unit: _Unit) -> Iterator[ManifestLaunch]:
    """The launch of a Quadlet container: `Exec` behind `Entrypoint`, or behind that of the image."""
    section = "Container"
    at, command = unit.last(section, "Image"), unit.last(section, "Exec")
    image = unit.value(at)
    if at is None:
        return
    env = unit.environment(section)
    added = list(_podman_options(unit, section))
    options = [*_stated_options(unit, section), *added]
    words = words_of(unit.text, command) if command else []
    owner = ArgumentList(Form.SHELL, command.start if command else at.start)
    arguments = unit.arguments(words, owner, unit.environment("Service"))
    entrypoint = unit.value(unit.last(section, "Entrypoint"))
    more, set_entrypoint = _set_by(added)
    env, entrypoint = env | more, set_entrypoint or entrypoint
    pod = pod_of_options(options, [word.text for word in arguments], env, runtime=Runtime.QUADLET, podman=True)
    line = unit.line(command.start if command else at.start)
    surroundings = ManifestLaunch(
        "quadlet", "", line, (), image=image, image_line=unit.line(at.start), env=env, pod=pod
    )
    if entrypoint is None and image is not None and parse_image(image).serves:
        yield replace(surroundings, words=tuple(arguments), hidden=hidden_in(arguments))
    else:
        program = [Argument(word, line) for word in (entrypoint or "").split()]
        yield from _vector_launches([*program, *arguments], surroundings)


def _stated_options(unit: _Unit, section: str) -> Iterator[ContainerOption]:
    """The entries of a container that are options of `podman run` under another name."""
    for name, option in _OPTIONS.items():
        for entry in unit.all(section, name):
            yield ContainerOption(option, unit.text[entry.start : entry.stop].strip(), unit.line(entry.start))


def _podman_options(unit: _Unit, section: str) -> Iterator[ContainerOption]:
    """The options of `PodmanArgs=`, each with what stands behind it."""
    for entry in unit.all(section, "PodmanArgs"):
        words = words_of(unit.text, entry)
        for word, behind in zip(words, [*words[1:], None], strict=True):
            option, equals, attached = word.text.partition("=")
            following = behind.text if behind else ""
            value = attached if equals else following
            if option.startswith("-"):
                yield ContainerOption(_SHORT.get(option, option.lstrip("-")), value, unit.line(word.start))


def _set_by(options: Sequence[ContainerOption]) -> tuple[dict[str, str | None], str | None]:
    """The variables that options of `podman run` set, and the entrypoint; None where they set none."""
    env: dict[str, str | None] = {}
    entrypoint = None
    for option in options:
        if option.name == "env":
            name, stated, of_variable = option.text.partition("=")
            env[name] = of_variable if stated and "%" not in of_variable else None
        elif option.name == "env-file":
            env |= dict.fromkeys(_FROM_FILES)
        elif option.name == "entrypoint":
            entrypoint = option.text
    return env, entrypoint

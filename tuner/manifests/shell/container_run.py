"""The command of `docker run`, `podman run` and `nerdctl run`: options, image, and what runs in it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tuner.manifests.image import parse_image
from tuner.manifests.shell.words import Word

ENGINES = frozenset({"docker", "podman", "nerdctl"})
_FLAGS = frozenset(
    {
        "detach",
        "disable-content-trust",
        "help",
        "init",
        "interactive",
        "no-healthcheck",
        "oom-kill-disable",
        "privileged",
    }
    | {"publish-all", "quiet", "read-only", "rm", "sig-proxy", "tty", "use-api-socket"}
    | {
        "env-host",
        "http-proxy",
        "no-hostname",
        "no-hosts",
        "passwd",
        "read-only-tmpfs",
        "replace",
        "rmi",
        "rootfs",
        "tls-verify",
        "unsetenv-all",
    }
)
"""Options without a value, of docker 28 (docker/cli, docs/reference/commandline/container_run.md, type `bool`) and of
podman (containers/podman, docs/source/markdown/podman-run.1.md.in). Every other one takes a value."""
_SHORT_FLAGS = frozenset("ditPq")
"""Their short forms, which may stand together, as in `-it`."""
_LONG = {"e": "env", "p": "publish", "u": "user", "v": "volume"}
_GLOBAL_FLAGS = frozenset({"-D", "--debug", "--tls", "--tlsverify", "--remote", "-r"})
"""Options without a value in front of the subcommand."""
_FROM_A_FILE = ("VLLM_CACHE_ROOT", "XDG_CACHE_HOME", "HOME")
"""Variables that say where vLLM keeps compiled code. A file of variables may set them."""


@dataclass(frozen=True)
class ContainerRun:
    """What runs in a container.

    Attributes:
        image: as it is written.
        entrypoint: the option's value; None without the option.
        env: the variables that it sets, None where the value is not known.
        options: by their long names where they have one that counts here, each with its value.
        hidden: some options may be in variables that are not known.
        podman: Podman runs it.
        command: what the words say that runs in it: the entrypoint if it is stated, then the words behind the image.
    """

    image: str
    entrypoint: Word | None
    env: Mapping[str, str | None]
    options: Sequence[tuple[str, Word]]
    hidden: bool
    podman: bool
    command: list[Word]


def container_run(words: Sequence[Word]) -> ContainerRun | None:
    """Read `docker run [OPTIONS] IMAGE [COMMAND] [ARG...]`, whatever stands before it; None for other commands.

    A variable that is not known is an option where an image that serves follows it, and else the image.
    """
    texts = [word.text for word in words]
    engine, index = _behind_run(texts)
    if index is None:
        return None
    hidden = False
    served = max((place for place, text in enumerate(texts) if parse_image(text).serves), default=-1)
    options: list[tuple[str, Word]] = []
    while index < len(words) and (texts[index].startswith("-") or (words[index].alone and index < served)):
        hidden = hidden or not texts[index].startswith("-")
        read = list(_options(words[index], words[index + 1 : index + 2]))
        options += read
        index += 1 + any(value is following for _, value in read for following in words[index + 1 : index + 2])
    if index >= len(words):
        return None
    entrypoint = next((value for name, value in reversed(options) if name == "entrypoint"), None)
    first = [entrypoint] if entrypoint is not None and entrypoint.text else []
    return ContainerRun(
        texts[index],
        entrypoint,
        _environment(options),
        options,
        hidden=hidden or words[index].alone or words[index].several,
        podman=engine == "podman",
        command=[*first, *words[index + 1 :]],
    )


def _behind_run(texts: Sequence[str]) -> tuple[str, int | None]:
    """The engine, and the index behind `docker … run`; None if there is none."""
    programs = [text.rpartition("/")[2] for text in texts]
    engine = next((program for program in programs if program in ENGINES), "")
    index = programs.index(engine) + 1 if engine else len(texts)
    while index < len(texts) and texts[index].startswith("-"):
        index += 1 if "=" in texts[index] or texts[index] in _GLOBAL_FLAGS else 2
    index += texts[index : index + 1] == ["container"]
    return engine, index + 1 if texts[index : index + 1] in (["run"], ["create"]) else None


def _options(word: Word, behind: Sequence[Word]) -> Iterator[tuple[str, Word]]:
    """The options in one word, by their long names where they have one that counts here, each with its value.

    The value is the word behind, or this word itself with the text of the value; that of an option without one is it.
    """
    name, equals, value = word.text.partition("=")
    if name.startswith("--"):
        if equals:
            yield name[2:], word._replace(text=value)
        elif behind and name[2:] not in _FLAGS:
            yield name[2:], behind[0]
        else:
            yield name[2:], word
        return
    for place, letter in enumerate(word.text[1:], 2):
        if letter in _SHORT_FLAGS:
            continue
        attached = word.text[place:].removeprefix("=")
        yield _LONG.get(letter, letter), word._replace(text=attached) if attached or not behind else behind[0]
        return


def _environment(options: Sequence[tuple[str, Word]]) -> dict[str, str | None]:
    env: dict[str, str | None] = {}
    if any(name == "env-file" for name, _ in options):
        env = dict.fromkeys(_FROM_A_FILE)
    for name, value in options:
        variable, equals, text = value.text.partition("=")
        if name == "env":
            env[variable] = text if equals and not value.unknown else None
    return env

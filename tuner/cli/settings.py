"""Settings of a project: `tuner.toml`, or `[tool.tuner]` in `pyproject.toml`, of the nearest folder above.

An option of the command line wins over a `TUNER_*` variable, and a variable over a file.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct, ValidationError, convert

from rules.errors import ErrorKind, TunerError
from tuner.untrusted.files import read_plain

if TYPE_CHECKING:
    from tuner.environment.environment import Environment

OWN_FILE = "tuner.toml"
SHARED_FILE = "pyproject.toml"
TABLE = "[tool.tuner"
MAX_FILE = 2**20
"""Bytes of a settings file."""
_MAX_PROBLEM = 300
"""Characters of what a library says of a file; it may quote the file."""
_FIELD = re.compile(r"(?:field `|at `\$\.)([^`.\[]+)")
"""The setting that msgspec names in a message."""


class Settings(Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """What a file sets; None and an empty mapping where it sets nothing.

    Attributes:
        python: interpreter of the serving environment.
        store: the verdict store's path.
        accept_platform: a platform whose verdict may decide where the environment's own has none.
        configs: folder of the models' configurations, for `check`, `apply` and `service run`.
        images: pattern of image names, as in a shell -> a saved `tuner env --json`; the first that fits counts.
    """

    python: str | None = None
    store: str | None = None
    accept_platform: str | None = None
    configs: str | None = None
    images: dict[str, str] = {}


class Project(Struct, frozen=True):
    """What a command is told of the project.

    Attributes:
        settings: those that hold.
        fault: why the file cannot be used, so that its settings do not hold; a sentence; empty if it can be used.
    """

    settings: Settings = Settings()
    fault: str = ""


def project_of(command: str) -> Project:
    """The project of the working folder. A server starts although its file cannot be used; see `Project.fault`.

    Args:
        command: the name of the command that runs.

    Raises:
        TunerError: as for `read_settings`, for every other command.
    """
    try:
        return Project(project_settings())
    except TunerError as error:
        if command != "serve":
            raise
        return Project(fault=error.message)


def project_settings() -> Settings:
    """The settings that hold in the working folder; without a file there are none.

    Raises:
        TunerError: as for `read_settings`.
    """
    file = settings_file()
    return Settings() if file is None else read_settings(file)


def settings_file() -> Path | None:
    """The settings file of the nearest folder, the working one or one above; None if there is none.

    Of two files in one folder `tuner.toml` counts.
    """
    try:
        here = Path.cwd()
    except OSError:  # the folder is gone
        return None
    for place in (here, *here.parents):
        own, shared = place / OWN_FILE, place / SHARED_FILE
        # The method raises where a folder above may not be searched.
        if os.path.isfile(own):  # noqa: PTH113
            return own
        if _has_our_table(shared):
            return shared
    return None


def images_of(project: Project | None) -> "tuple[tuple[str, Environment], ...]":
    """Patterns of image names, each with the environment of these images.

    Raises:
        TunerError: a saved environment cannot be used.
    """
    from tuner.environment.saved import serving_environment

    images = []
    for pattern, file in (project or Project()).settings.images.items():
        images.append((pattern, serving_environment(None, Path(file))[0]))
    return tuple(images)


def _has_our_table(file: Path) -> bool:
    """Whether a project's file speaks to this tool; one that cannot be read does not."""
    try:
        return TABLE.encode() in read_plain(file, MAX_FILE)
    except OSError:
        return False


def read_settings(file: Path) -> Settings:
    """The settings in a file, its paths made absolute: they are relative to the file's folder.

    Raises:
        TunerError: kind `usage`: the file cannot be read, is not TOML, or has a key that is not a setting.
    """
    import tomllib  # most folders have no such file

    text = _text(file)
    try:
        document: Any = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _unusable(file, f"is not TOML: {str(error)[:_MAX_PROBLEM]}") from None
    except (ValueError, RecursionError):  # a number of more digits than Python takes; brackets by the thousand
        raise _unusable(file, "is TOML that is nested too deeply, or has a number that is too long") from None
    for table in ("tool", "tuner") if file.name == SHARED_FILE else ():
        document = document.get(table, {}) if isinstance(document, dict) else {}
    try:
        settings = convert(document, Settings)
    except ValidationError as error:
        problem = f"has a setting that does not exist, or one of a wrong type: {str(error)[:_MAX_PROBLEM]}"
        raise _unusable(file, problem + _place_of(str(error), text, file.name)) from None
    if any("\0" in value for value in _values(settings)):
        raise _unusable(file, "has a value with a null character")
    return _with_absolute_paths(settings, file.parent)


def _values(settings: Settings) -> list[str]:
    """Every text that a file sets."""
    texts = (settings.python, settings.store, settings.accept_platform, settings.configs)
    return [*filter(None, texts), *settings.images, *settings.images.values()]


def _place_of(problem: str, text: str, name: str) -> str:
    """Where the setting of a problem stands, as tomllib says it; empty if that cannot be told."""
    field = _FIELD.search(problem)
    begin = text.find(TABLE) if name == SHARED_FILE else 0
    if field is None or begin < 0:
        return ""
    setting = rf"^[ \t]*(?:\[[\w. \t\"'-]*)?[\"']?{re.escape(field[1])}[\"']?[ \t]*[=.\]]"
    match = re.compile(setting, re.MULTILINE).search(text, begin)
    return f" (at line {text.count(chr(10), 0, match.start()) + 1})" if match else ""


def _with_absolute_paths(settings: Settings, folder: Path) -> Settings:
    images = {pattern: str(folder / path) for pattern, path in settings.images.items()}
    is_path = settings.python is not None and "/" in settings.python  # a name alone is looked up on PATH
    return Settings(
        _absolute(settings.python, folder) if is_path else settings.python,
        _absolute(settings.store, folder),
        settings.accept_platform,
        _absolute(settings.configs, folder),
        images,
    )


def _absolute(path: str | None, folder: Path) -> str | None:
    # The method raises for a user who does not exist.
    return None if path is None else str(folder / os.path.expanduser(path))  # noqa: PTH111


def _text(file: Path) -> str:
    try:
        return read_plain(file, MAX_FILE).decode("utf-8")
    except OSError as error:
        raise _unusable(file, f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise _unusable(file, "is not UTF-8") from None


def _unusable(file: Path, problem: str) -> TunerError:
    return TunerError(
        f"{file} {problem}.",
        hint="docs/reference/settings.md lists the settings.",
        kind=ErrorKind.USAGE,
    )


def defaults_of_commands(settings: Settings, commands: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as click's `default_map`: command -> parameter -> value, for the parameters that a command has.

    Args:
        settings: the settings.
        commands: click's commands by name; groups hold further ones.
    """
    defaults: dict[str, Any] = {}
    for name, command in commands.items():
        if hasattr(command, "commands"):
            defaults[name] = defaults_of_commands(settings, command.commands)
        else:
            parameters = {parameter.name for parameter in command.params}
            defaults[name] = _defaults(settings, name, parameters)
    return defaults


def _defaults(settings: Settings, command: str, parameters: set[str]) -> dict[str, str]:
    values = {
        "python": settings.python,
        "store": settings.store,
        "accept_platform": settings.accept_platform,
        "configs": settings.configs if command in {"check", "apply", "run"} else None,
    }
    return {name: value for name, value in values.items() if name in parameters and value is not None}

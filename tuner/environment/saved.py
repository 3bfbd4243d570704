"""The environment that a command is about: one on this machine, or a saved one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rules.errors import ErrorKind, TunerError
from tuner.environment.environment import Environment, read_environment
from tuner.untrusted.files import read_plain
from tuner.untrusted.json_text import MAX_BYTES, parse_object


def serving_environment(python: str | None, saved: Path | None) -> tuple[Environment, bool]:
    """The serving environment, and whether its files can be read here.

    Raises:
        TunerError: no Python there, no vLLM in it, or the saved file is none.
    """
    environment = read_environment(python) if saved is None else read_saved_environment(saved)
    require_vllm(environment)
    return environment, saved is None


def require_vllm(environment: Environment) -> None:
    """Refuse an environment in which nothing serves.

    Raises:
        TunerError: no vLLM is in it.
    """
    if environment.vllm is None:
        raise TunerError(
            f"No vLLM is installed for {environment.python}.",
            hint="Name the interpreter of the serving environment with --python.",
            kind=ErrorKind.ENVIRONMENT,
        )


def read_saved_environment(path: Path) -> Environment:
    """Read what `tuner env --json` printed.

    Raises:
        TunerError: the file cannot be read or is no such document.
    """
    try:
        document = parse_object(read_plain(path, MAX_BYTES + 1))
    except OSError as error:
        raise TunerError(f"{path} cannot be read: {error.strerror}.", hint=_HINT, kind=ErrorKind.ENVIRONMENT) from None
    except ValueError:
        document = {}
    return environment_in(document, str(path))


def environment_in(document: Mapping[str, Any], name: str) -> Environment:
    """The environment in a document of `tuner env --json` that is called `name` in sentences.

    Raises:
        TunerError: it is no such document.
    """
    environment = document.get("environment")
    if not isinstance(environment, dict):
        raise TunerError(f"{name} is not a saved environment.", hint=_HINT, kind=ErrorKind.ENVIRONMENT)
    return Environment.from_dict(environment)


_HINT = "Make it with `tuner env --json > FILE` where the server will run."

"""The environment that a command is about: one on this machine, or a saved one."""

from pathlib import Path

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
    if environment.vllm is None:
        raise TunerError(
            f"No vLLM is installed for {environment.python}.",
            hint="Name the interpreter of the serving environment with --python.",
            kind=ErrorKind.ENVIRONMENT,
        )
    return environment, saved is None


def read_saved_environment(path: Path) -> Environment:
    """Read what `tuner env --json` printed.

    Raises:
        TunerError: the file cannot be read or is no such document.
    """
    hint = "Make it with `tuner env --json > FILE` where the server will run."
    try:
        return Environment.from_dict(parse_object(read_plain(path, MAX_BYTES + 1))["environment"])
    except OSError as error:
        raise TunerError(f"{path} cannot be read: {error.strerror}.", hint=hint, kind=ErrorKind.ENVIRONMENT) from None
    except (ValueError, KeyError, TypeError):
        raise TunerError(f"{path} is no saved environment.", hint=hint, kind=ErrorKind.ENVIRONMENT) from None

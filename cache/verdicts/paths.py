"""Where the verdict store lies."""

import os
import pwd
from collections.abc import Mapping
from pathlib import Path

from cache.errors import StoreError

_INSIDE = Path("vllm-moe-tuner", "verdicts.sqlite")


def store_path(override: str | None, environ: Mapping[str, str]) -> Path:
    """Path of the verdict store; nothing is created or looked at there.

    Precedence: `override` (the option `--store`), `TUNER_STORE`, then `vllm-moe-tuner/verdicts.sqlite` in
    `$XDG_DATA_HOME`, then the same in `~/.local/share`. Empty values count as absent, and so does an
    `XDG_DATA_HOME` that is not absolute, as the XDG base directory specification 0.8 demands. Without `HOME`
    the home folder is the one in the user database.

    Raises:
        StoreError: none of these is set and the user has no home folder.
    """
    named = override or environ.get("TUNER_STORE")
    if named:
        return Path(named)
    data = Path(environ.get("XDG_DATA_HOME", ""))
    if not data.is_absolute():
        data = _home(environ) / ".local" / "share"
    return data / _INSIDE


def _home(environ: Mapping[str, str]) -> Path:
    home = environ.get("HOME")
    if home:
        return Path(home)
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:  # a container may run as a number that the user database does not know
        raise StoreError(
            "There is no place for the verdict store: HOME is not set and this user has no home folder.",
            hint="Name a file with --store or TUNER_STORE.",
        ) from None

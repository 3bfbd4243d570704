"""A model's `config.json` from the hub: out of the local cache by its files, else that one file is fetched."""

import os
import re
from pathlib import Path

from tuner.bounded_json import MAX_BYTES
from tuner.errors import TunerError
from tuner.patience import NoAnswerInTimeError, answer_of

CONFIG = "config.json"
_HUB_ID = re.compile(r"([\w.-]{1,96}/)?[\w.-]{1,96}", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_TRUE = frozenset({"1", "ON", "YES", "TRUE"})  # what huggingface_hub takes for yes
_UNAUTHORISED, _FORBIDDEN, _NOT_FOUND = 401, 403, 404


def is_hub_id(name: str) -> bool:
    """Whether a name may be a model on the hub: `name` or `organisation/name`, by the rules of huggingface_hub."""
    parts = name.split("/")
    odd = any(part.startswith((".", "-")) or part.endswith((".", "-")) for part in parts)
    return bool(_HUB_ID.fullmatch(name)) and not (odd or "--" in name or ".." in name or name.endswith(".git"))


def snapshot(name: str, revision: str | None = None) -> tuple[Path, str]:
    """Find a model's snapshot folder, with `config.json` in it, and its commit.

    The local cache answers first and is not compared with the hub. Only where it has no `config.json`, and unless
    HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set, is that file fetched, and nothing else. HF_ENDPOINT, HF_TOKEN and
    the cache variables count as in huggingface_hub. The hub has as long for its answer as `tuner.patience` says.

    Args:
        name: a hub id.
        revision: branch, tag or commit; None: `main`.

    Raises:
        TunerError: neither the cache nor the hub gives the file.
    """
    folder = cached_snapshot(name, revision)
    if folder is None and _offline():
        raise _bad(
            f"{_named(name, revision)} is neither a folder here nor in the local hub cache, and offline mode is on.",
            "Download its config.json into the cache, or unset HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE.",
        )
    folder = folder or _fetch_in_time(name, revision)
    return folder, folder.name


def cached_snapshot(name: str, revision: str | None = None) -> Path | None:
    """The snapshot folder in the local hub cache; None if it is not there or has no `config.json`."""
    models = cache_folder() / ("models--" + name.replace("/", "--"))
    wanted = revision or "main"
    if ".." in wanted.split("/"):
        return None
    try:
        commit = (models / "refs" / wanted).read_text().strip()
    except (OSError, ValueError):
        commit = wanted
    folder = models / "snapshots" / commit
    return folder if _COMMIT.fullmatch(commit) and (folder / CONFIG).is_file() else None


def cache_folder() -> Path:
    """Where huggingface_hub keeps downloads, by its variables in their order of precedence."""
    named = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    home = os.environ.get("HF_HOME") or (os.environ.get("XDG_CACHE_HOME") or "~/.cache") + "/huggingface"
    return Path(os.path.expandvars(named or home + "/hub")).expanduser()


def _offline() -> bool:
    return any(os.environ.get(name, "").upper() in _TRUE for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))


def _fetch_in_time(name: str, revision: str | None) -> Path:
    try:
        return answer_of(lambda: _fetch(name, revision), _host())
    except NoAnswerInTimeError as error:
        waited = f"no whole answer within {error.seconds:.1f} s" if error.seconds > 0 else "no time is left to ask it"
        raise _not_fetched(_named(name, revision), waited) from None


def _fetch(name: str, revision: str | None) -> Path:
    # A quarter of a second to import, for the one look-up that needs it.
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url  # noqa: PLC0415
    from huggingface_hub.utils.tqdm import disable_progress_bars  # noqa: PLC0415

    disable_progress_bars()
    constants.HF_HUB_DISABLE_TELEMETRY = True  # or it asks the hub for more than this file
    endpoint = os.environ.get("HF_ENDPOINT") or None
    try:
        # Asks once; the download alone would ask again for minutes where there is no network.
        size = get_hf_file_metadata(hf_hub_url(name, CONFIG, revision=revision, endpoint=endpoint)).size
        fits = size is not None and size <= MAX_BYTES
        file = (
            hf_hub_download(name, CONFIG, revision=revision, cache_dir=cache_folder(), endpoint=endpoint)
            if fits
            else ""
        )
    except Exception as error:  # its errors come from three libraries, with no base in common
        raise _refused(name, revision, error) from error
    if not fits:
        raise _too_large(name, CONFIG)
    return Path(file).parent


def _refused(name: str, revision: str | None, error: Exception) -> TunerError:
    """The sentence for a failed download; never the library's own, which may repeat what was sent."""
    from huggingface_hub import errors  # noqa: PLC0415

    model = _named(name, revision)
    status = _status(error)
    if isinstance(error, errors.GatedRepoError) or status == _FORBIDDEN:
        return _bad(
            f"{model} is gated.", f"Accept its licence on {_page(name)}, and set HF_TOKEN to a token that may read it."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return _bad(f"{name} has no revision {revision} on the hub.", "Name a branch, a tag or a commit of it.")
    if isinstance(error, errors.RepositoryNotFoundError) or status == _UNAUTHORISED:
        hint = "Check the spelling; for a private model set HF_TOKEN to a token that may read it."
        return _bad(f"There is no folder {name}, and the hub shows no model of that name.", hint)
    if isinstance(error, errors.EntryNotFoundError) and status == _NOT_FOUND:
        return _bad(f"{model} has no {CONFIG} on the hub.", "Name a folder that holds one.")
    if isinstance(error, OSError) and error.filename:
        hint = "Set HF_HUB_CACHE to a folder that can be."
        return _bad(f"The hub cache {cache_folder()} cannot be written: {error.strerror}.", hint)
    said = f"it answered {status}" if status else f"no answer ({type(error.__cause__ or error).__name__})"
    return _not_fetched(model, said)


def _not_fetched(model: str, said: str) -> TunerError:
    hint = "Check the network and HF_ENDPOINT, or name a folder that holds the model's config.json."
    return _bad(f"The {CONFIG} of {model} could not be fetched from {_host()}: {said}.", hint)


def _too_large(name: str, file: str) -> TunerError:
    return _bad(
        f"The {file} of {name} on the hub is larger than {MAX_BYTES >> 20} MiB, or states no size.",
        "Name a folder that holds the model's files.",
    )


def _status(error: Exception) -> int | None:
    """The HTTP status behind an error, or behind what it was raised from."""
    for candidate in (error, error.__cause__):
        status = getattr(getattr(candidate, "response", None), "status_code", None)
        if isinstance(status, int):
            return status
    return None


def _page(name: str) -> str:
    return f"https://{_host()}/{name}"


def _host() -> str:
    """The hub's host; never the whole address, which may hold a password."""
    from urllib.parse import urlsplit  # noqa: PLC0415  errors only

    return urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co").hostname or "HF_ENDPOINT"


def _named(name: str, revision: str | None) -> str:
    return f"{name} at {revision}" if revision else name


def _bad(message: str, hint: str) -> TunerError:
    return TunerError(message, hint=hint, kind="model")

"""A model's small files from the hub: taken from the local cache, and fetched if the cache does not know them."""

import os
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TypeVar

from rules.errors import ErrorKind, TunerError
from tuner.model.hub_answer import HubRefusalError, Question, TooLargeError, UnusableAnswerError
from tuner.model.patience import NoAnswerInTimeError, answer_of
from tuner.untrusted.json_text import MAX_BYTES

CONFIG = "config.json"
MISTRAL_WEIGHTS = "consolidated*.safetensors"
"""Weights of a repository of which vLLM reads params.json (transformers_utils/repo_utils.py, is_mistral_model_repo)."""
ROUNDS = 2
"""How often a repository is checked: a file that was fetched may name others."""
_HUB_ID = re.compile(r"([\w.-]{1,96}/)?[\w.-]{1,96}", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_TRUE = frozenset({"1", "ON", "YES", "TRUE"})  # huggingface_hub's words for yes
_Answer = TypeVar("_Answer")
_UNAUTHORISED, _FORBIDDEN, _NOT_FOUND = 401, 403, 404


def is_hub_id(name: str) -> bool:
    """Whether a name may be a model on the hub: `name` or `organisation/name`, by the rules of huggingface_hub."""
    parts = name.split("/")
    odd = any(part.startswith((".", "-")) or part.endswith((".", "-")) for part in parts)
    return bool(_HUB_ID.fullmatch(name)) and not (odd or "--" in name or ".." in name or name.endswith(".git"))


def snapshot(name: str, revision: str | None = None) -> tuple[Path, str]:
    """Find a model's snapshot folder, with `config.json` in it, and its commit.

    The local cache wins, and is not compared with the hub. If it lacks `config.json`, only that file is fetched, unless
    HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set. HF_ENDPOINT, HF_TOKEN and the cache variables have the same effect as
    in huggingface_hub. `tuner.model.patience` bounds the time for the hub's answer, `tuner.model.hub_answer` its bytes.

    Args:
        name: a hub id.
        revision: branch, tag or commit; None: `main`.

    Raises:
        TunerError: neither the cache nor the hub has the file.
    """
    folder = cached_snapshot(name, revision)
    if folder is None and _offline():
        raise _bad(
            f"{_named(name, revision)} is neither a folder here nor in the local hub cache, and offline mode is on.",
            "Download its config.json into the cache, or unset HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE.",
        )
    if folder is None:
        folder = _ask(partial(_fetch, name, revision), partial(_not_fetched, _named(name, revision)))
    return folder, folder.name


def cached_snapshot(name: str, revision: str | None = None) -> Path | None:
    """The snapshot folder in the local hub cache; None if there is none or it has no `config.json`."""
    models = _models(name)
    reference = revision or "main"
    if _leads_out(reference):
        return None
    try:
        commit = (models / "refs" / reference).read_text().strip()
    except (OSError, ValueError):
        commit = reference
    folder = models / "snapshots" / commit
    return folder if _COMMIT.fullmatch(commit) and (folder / CONFIG).is_file() else None


def _models(name: str) -> Path:
    """The folder of a repository in the local hub cache."""
    return cache_folder() / ("models--" + name.replace("/", "--"))


def _leads_out(path: str) -> bool:
    """Whether a name from elsewhere could name a file outside of the folder that it belongs to."""
    return path.startswith("/") or "\0" in path or ".." in path.split("/")


def complete(name: str, folder: Path, names: Callable[[], Iterable[str]]) -> None:
    """Complete a snapshot with the small files that the repository has.

    The cache knows a file if it holds the file, or huggingface_hub's mark that the repository has none (`.no_exist`).
    The hub is asked once for all files that the cache does not know. In offline mode these count as absent, as in vLLM.
    `tuner.model.patience` bounds the time for the hub's answers.

    Args:
        name: a hub id.
        folder: its snapshot.
        names: returns the names of the files, below the snapshot; called again after files were fetched, because a
            file may name others.

    Raises:
        TunerError: the hub does not answer, or a file cannot be fetched or is too large.
    """
    for _ in range(ROUNDS):
        unknown = [file for file in names() if not (folder / file).is_file() and not is_absent(folder, file)]
        if not unknown or _offline():
            return
        _ask(partial(_fetch_beside, name, folder, unknown), partial(_not_completed, name))


def is_absent(folder: Path, file: str) -> bool:
    """Whether the cache knows that the snapshot's repository has no such file."""
    return _mark(folder, file).is_file()


def _mark(folder: Path, file: str) -> Path:
    return folder.parent.parent / ".no_exist" / folder.name / file


def cache_folder() -> Path:
    """The folder of huggingface_hub's downloads, by its variables in their order of precedence."""
    named = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    home = os.environ.get("HF_HOME") or (os.environ.get("XDG_CACHE_HOME") or "~/.cache") + "/huggingface"
    return Path(os.path.expandvars(named or home + "/hub")).expanduser()


def _offline() -> bool:
    return any(os.environ.get(name, "").upper() in _TRUE for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))


def _ask(question: Callable[[], _Answer], failure: Callable[[str], TunerError]) -> _Answer:
    """The hub's answer; `failure` makes an error from a reason, which is the end of a sentence."""
    if not _endpoint_is_readable():  # the library would print that on stdout
        raise failure("that is not an address")
    try:
        return answer_of(question, _host())
    except NoAnswerInTimeError as error:
        raise failure(str(error)) from None
    except ValueError as error:  # huggingface_hub reads its variables when it is imported
        raise failure("a variable of huggingface_hub cannot be read") from error


def _fetch(name: str, revision: str | None) -> Path:
    """Fetch config.json into the cache, in the layout of huggingface_hub; the snapshot's folder."""
    model = _named(name, revision)
    try:
        answer = Question().file(name, CONFIG, revision)
    except TooLargeError:
        raise _too_large(name, CONFIG) from None
    except HubRefusalError as error:
        raise _refused(name, revision, error) from error
    except Exception as error:  # its errors come from several libraries, with no base in common
        raise _not_fetched(model, _reason(error)) from error
    if not _COMMIT.fullmatch(answer.commit):
        raise _not_fetched(model, "it names no commit")
    folder = _models(name) / "snapshots" / answer.commit
    reference = revision or "main"
    try:
        _keep(folder / CONFIG, answer.data)
        if reference != answer.commit and not _leads_out(reference):
            _keep(_models(name) / "refs" / reference, answer.commit.encode())
    except OSError as error:
        raise _not_written(error) from error
    return folder


def _keep(file: Path, data: bytes) -> None:
    """Write a whole file into the cache, which others may read meanwhile."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f"{file.name}.{os.getpid()}.incomplete")
    unfinished.write_bytes(data)
    unfinished.replace(file)


def _fetch_beside(name: str, folder: Path, unknown: Iterable[str]) -> None:
    """Fetch the files that the repository has, and mark the others as absent."""
    question = Question()
    file = ""
    try:
        files = question.listing(name, folder.name)
        for file in sorted(files.intersection(unknown)):
            if not _leads_out(file):
                _keep(folder / file, question.file(name, file, folder.name).data)
    except TooLargeError:
        raise _too_large(name, file or "list of files") from None
    except OSError as error:
        raise _not_written(error) from error
    except Exception as error:  # as in `_fetch`
        raise _not_completed(name, _reason(error)) from error
    absent = [file for file in unknown if file not in files]
    if not any(PurePosixPath(file).match(MISTRAL_WEIGHTS) for file in files):
        absent.append(MISTRAL_WEIGHTS)
    with suppress(OSError):  # if the cache cannot be written, the next look-up asks again
        for mark in (_mark(folder, file) for file in absent):
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()


def _not_completed(name: str, reason: str) -> TunerError:
    """The failure to ask the hub which files lie beside a config.json that is here."""
    return _bad(
        f"Which files of {name} lie beside its {CONFIG} could not be learned from {_host()}: {reason}.",
        "Check the network, HF_ENDPOINT and HF_TOKEN; with HF_HUB_OFFLINE=1 the cache is taken as it is, by vLLM too.",
    )


def _refused(name: str, revision: str | None, error: HubRefusalError) -> TunerError:
    """The error for a refusal, by the hub's status and code; its own words may repeat what was sent."""
    model = _named(name, revision)
    if error.code == "GatedRepo" or error.status == _FORBIDDEN:
        return _bad(
            f"{model} is gated.", f"Accept its licence on {_page(name)}, and set HF_TOKEN to a token that may read it."
        )
    if error.code == "RevisionNotFound":
        return _bad(f"{name} has no revision {revision} on the hub.", "Name a branch, a tag or a commit of it.")
    if error.code == "RepoNotFound" or error.status == _UNAUTHORISED:
        hint = "Check the spelling; for a private model set HF_TOKEN to a token that may read it."
        return _bad(f"There is no folder {name}, and the hub shows no model of that name.", hint)
    if error.code == "EntryNotFound" and error.status == _NOT_FOUND:
        return _bad(f"{model} has no {CONFIG} on the hub.", "Name a folder that holds one.")
    return _not_fetched(model, _reason(error))


def _not_written(error: OSError) -> TunerError:
    hint = "Set HF_HUB_CACHE to a folder that can be."
    return _bad(f"The hub cache {cache_folder()} cannot be written: {error.strerror}.", hint)


def _not_fetched(model: str, reason: str) -> TunerError:
    hint = "Check the network and HF_ENDPOINT, or name a folder that holds the model's config.json."
    return _bad(f"The {CONFIG} of {model} could not be fetched from {_host()}: {reason}.", hint)


def _reason(error: Exception) -> str:
    """Why there is no answer that can be used, as the end of a sentence."""
    if isinstance(error, HubRefusalError | UnusableAnswerError):
        return str(error)
    return f"no answer ({type(error.__cause__ or error).__name__})"


def _too_large(name: str, file: str) -> TunerError:
    return _bad(
        f"The {file} of {name} on the hub is larger than {MAX_BYTES >> 20} MiB.",
        "Name a folder that holds the model's files.",
    )


def _page(name: str) -> str:
    return f"https://{_host()}/{name}"


def _host() -> str:
    """The hub's host; never the whole address, which may hold a password."""
    from urllib.parse import urlsplit  # noqa: PLC0415  a look-up that asks nobody does without

    if not _endpoint_is_readable():
        return "HF_ENDPOINT"
    return urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co").hostname or "HF_ENDPOINT"


def _endpoint_is_readable() -> bool:
    from urllib.parse import urlsplit  # noqa: PLC0415  as in `_host`

    try:
        _ = urlsplit(os.environ.get("HF_ENDPOINT", "")).port
    except ValueError:  # brackets that do not close, or a port that is none
        return False
    return True


def _named(name: str, revision: str | None) -> str:
    return f"{name} at {revision}" if revision else name


def _bad(message: str, hint: str) -> TunerError:
    return TunerError(message, hint=hint, kind=ErrorKind.MODEL)

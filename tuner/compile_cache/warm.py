"""Warm a compile cache: start the launch once, keep what it compiled, start it again, and see whether that was used."""

import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from msgspec import structs

from cache.compiled.publish import publish, staging_folder
from cache.compiled.warm_record import WarmRecord, write_record
from cache.secrets import redacted, without_keys
from rules.autotune import OFF
from rules.errors import ErrorKind, TunerError
from rules.releases import named_release
from tuner.arguments.serve_arguments import ServeArguments
from tuner.compile_cache.autotune_launch import second_start_may_hang
from tuner.compile_cache.factors import launch_factors
from tuner.compile_cache.launch_digest import launch_digest
from tuner.compile_cache.prediction import why_unloadable
from tuner.engines.stand_ins import stand_ins
from tuner.launch.cache_root import CACHE_ROOT, require_no_tls
from tuner.launch.plan import Plan
from tuner.launch.serve import command
from tuner.processes.log_tail import ignored
from tuner.processes.server_process import ready_server
from tuner.server_log.log import ServerLog, read_server_log

API_KEY = "VLLM_API_KEY"
LOGGING = {"VLLM_LOGGING_LEVEL": "INFO", "VLLM_LOGGING_COLOR": "0"}
"""So that the log can be read; no release counts them in a key (vllm/envs.py)."""
LOG_FORMATS = ("VLLM_LOGGING_CONFIG_PATH", "VLLM_LOGGING_PREFIX", "VLLM_LOGGING_STREAM")
_UNLOADED = re.compile(r"Compiling model again due to a load failure from .*?, reason: (?P<reason>.*)")
_MAY_HANG = (
    "with several ranks this vLLM may hang now, as it finds what FlashInfer's autotune has measured "
    f"(vllm pull request 54618); if it does, warm and serve with {OFF}"
)
_API_KEY_COUNTS_BEFORE, _HOME_COUNTS_BEFORE = (0, 29), (0, 27)
"""Releases that leave them out of their keys (vllm/envs.py, `compile_factors`, read in each release)."""


@dataclass(frozen=True)
class Warmed:
    """What came of a warm-up.

    Attributes:
        record: as it was written.
        root: the cache root.
        present: entries that were there before; they stay as they were.
        reason: why the second start did not load what the first had made, in vLLM's words; empty if it says none.
        notes: what a launch must keep to, or else it misses; whole sentences.
    """

    record: WarmRecord
    root: Path
    present: tuple[str, ...]
    reason: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Start:
    """A start that became ready: after how many seconds, what it did with the cache, and why it could not load."""

    seconds: float
    log: ServerLog
    reason: str

    @property
    def hit(self) -> bool | None:
        """Whether everything that was compiled came from the cache; None: the log says nothing of it."""
        if self.log.misses:
            return False
        return True if self.log.hits else None


def warm(
    plan: Plan,
    arguments: ServeArguments,
    environ: Mapping[str, str],
    limit: float,
    say: Callable[[str], None],
    *,
    hear: Callable[[str], None] = ignored,
) -> Warmed:
    """Fill the cache root of a launch, and see whether a second start hits it.

    Args:
        plan: the launch; its cache location is the root.
        arguments: those of the user, read.
        environ: the environment variables of the launch.
        limit: seconds that each start may take.
        say: called with each step that begins.
        hear: called with the last line of the server's log, now and then.

    Raises:
        TunerError: a start fails (kind `server`), the cache cannot be written (kind `cache`), or the launch names a
            folder for it (kind `usage`).
    """
    _require_root(arguments)
    root = Path(plan.launch.cache["location"]).absolute()
    args = (*plan.launch.args, *stand_ins(plan, arguments))
    vector = command(Path(plan.subject.environment.python), args)
    factors, notes = _factors(plan, args, environ, say)
    if why := why_unloadable(factors["compiles"]) if factors else "":
        say(f"vLLM cannot load what this launch saves, so the second start will compile again: {why}")
    try:
        staging = staging_folder(root)
        say("first start: compiles into an empty cache")
        cold = _started(vector, variables(plan, environ, staging), limit, hear)
        moved, present = publish(staging, root)
        record = structs.replace(_record(plan, environ, root, (*moved, *present), cold.seconds), factors=factors)
        write_record(root, record)
        say(f"ready after {cold.seconds:.0f} s; second start: from the cache")
        if second_start_may_hang(plan.subject.environment, arguments):
            say(_MAY_HANG)
        again = _started(vector, variables(plan, environ, root), limit, hear)
        record = structs.replace(record, warm_seconds=round(again.seconds, 1), hit=again.hit, proof=_proof(again))
        write_record(root, record)
    except OSError as error:
        raise TunerError(
            f"The cache cannot be written: {error.filename or root}: {error.strerror}.",
            hint="Name a folder that this user may write with --cache-root.",
            kind=ErrorKind.CACHE,
        ) from None
    return Warmed(record, root, tuple(present), again.reason, (*_notes(plan, environ), *notes))


def _factors(
    plan: Plan, args: tuple[str, ...], environ: Mapping[str, str], say: Callable[[str], None]
) -> tuple[dict[str, Any], list[str]]:
    """What the keys are made of, for `tuner cache explain`; empty with a note where vLLM cannot say."""
    say("asking vLLM what its keys are made of (10 to 60 s)")
    try:
        return launch_factors(plan.subject.environment.python, args, variables(plan, environ, Path())), []
    except TunerError as error:
        why = error.message.rstrip(".")
        return {}, [f"`tuner cache explain` will not know what this cache was made from: {why}."]


def variables(plan: Plan, environ: Mapping[str, str], root: Path) -> dict[str, str]:
    """The environment of a warming start: the launch's, with the cache in `root`, a readable log, and no API key.

    Releases that count VLLM_API_KEY in their keys also write it there in clear (0.16.0 to 0.28.0).
    """
    inherited = {name: value for name, value in environ.items() if name not in {API_KEY, *LOG_FORMATS}}
    return {**inherited, **plan.launch.env, CACHE_ROOT: str(root), **LOGGING}


def _require_root(arguments: ServeArguments) -> None:
    if arguments.compilation_config.get("cache_dir"):
        raise TunerError(
            "The launch names a cache_dir in its compilation config, which vLLM uses as it is.",
            hint="Leave cache_dir out, and name the root of all caches with --cache-root.",
            kind=ErrorKind.USAGE,
        )
    require_no_tls(arguments.as_written)


def _started(vector: list[str], environ: Mapping[str, str], limit: float, hear: Callable[[str], None]) -> _Start:
    with tempfile.TemporaryDirectory(prefix="tuner-warm-") as folder:
        log = Path(folder) / "server.log"
        with ready_server(vector, environ, log, limit, hear) as seconds:
            pass
        text = log.read_text(encoding="utf-8", errors="replace")
    reason = _UNLOADED.search(text)
    return _Start(seconds, read_server_log(text.splitlines()), redacted(reason["reason"].strip()) if reason else "")


def _proof(start: _Start) -> str:
    """The lines of vLLM's log that say so, counted."""
    return f"{start.log.hits} loaded, {start.log.misses} compiled" if start.hit is not None else ""


def _record(plan: Plan, environ: Mapping[str, str], root: Path, entries: tuple[str, ...], seconds: float) -> WarmRecord:
    model, environment = plan.subject.model, plan.subject.environment
    return WarmRecord(
        digest=launch_digest(plan, environ),
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        model=model.name,
        architecture=model.architecture,
        vllm=str(environment.vllm),
        torch=environment.torch,
        platform=environment.platform,
        gpu=environment.gpu,
        args=tuple(without_keys(plan.launch.args)),
        entries=entries,
        size=sum(path.stat().st_size for entry in entries for path in (root / entry).rglob("*") if path.is_file()),
        cold_seconds=round(seconds, 1),
    )


def _notes(plan: Plan, environ: Mapping[str, str]) -> list[str]:
    """What a launch must keep to for its key to be the same."""
    version = named_release(plan.subject.environment.vllm)
    release = version.release if version else ()
    notes = []
    if environ.get(API_KEY) and release < _API_KEY_COUNTS_BEFORE:
        notes.append(f"This vLLM counts {API_KEY} in its keys: give the server its key with --api-key, or it misses.")
    if release < _HOME_COUNTS_BEFORE:
        homes = ", ".join(f"{name}={environ[name]}" for name in ("HOME", "XDG_CONFIG_HOME") if environ.get(name))
        notes.append(f"This vLLM counts the home folder in its keys: serve with {homes or 'no HOME'}, or it misses.")
    return notes

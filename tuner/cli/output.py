"""What every command shares on its way out: the error boundary, results on stdout, the rest on stderr.

Knows nothing of typer, because a look-up is answered before typer is imported.
"""

import json
import os
import signal
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from rules.decide import Refusal
from rules.errors import TunerError
from rules.reason import sentences
from rules.releases import FlagStatus
from rules.verdict import Word
from tuner.errors import ExitCode, exit_code_of
from tuner.model.patience import telling
from tuner.text import folded, visible

if TYPE_CHECKING:
    from cache.verdicts.store import VerdictStore
    from tuner.launch.plan import Plan

_STATE = {"quiet": False}
_PATIENCE_S = 0.5
"""Seconds in which a full pipe may be read."""


@contextmanager
def failures(as_json: bool, name: str | None = None) -> Iterator[None]:
    """Turn known failures into a sentence on stderr, a document on stdout if asked for, and an exit code."""
    try:
        with telling(lambda sentence: say(f"tuner: {sentence}")):
            yield
    except TunerError as failure:
        from tuner.launch.document import failure_document

        complain(failure.message, failure.hint)
        if as_json:
            print_json(failure_document(name, failure))
        raise SystemExit(exit_code_of(failure)) from None
    except KeyboardInterrupt:
        say("tuner: stopped")
        raise SystemExit(ExitCode.STOPPED) from None


@contextmanager
def keeping(sentence: str) -> Iterator[None]:
    """Say what is kept if the user stops the command inside the block."""
    try:
        yield
    except KeyboardInterrupt:
        say(f"tuner: {sentence}")
        raise


def stop_on_signals() -> None:
    """Let SIGTERM and SIGHUP end a probe as Ctrl-C does: the worker has a session of its own and would live on."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # not under nohup
            signal.signal(number, signal.default_int_handler)


def complain(message: str, hint: str) -> None:
    """Say on stderr what is wrong and what to do next."""
    _write(f"tuner: {message}")
    for line in hint.splitlines():  # of a log's end, several
        _write(line.strip(), "  ")


def written_to(store: "VerdictStore") -> "VerdictStore":
    """The store, after its warning for those who write to it."""
    if store.warning:
        say(f"tuner: {store.warning}")
    return store


def present(plan: "Plan", as_json: bool, as_text: Callable[["Plan"], str]) -> None:
    """Print a plan, warn, and end with its exit code."""
    from tuner.launch.document import plan_document

    if as_json:
        print_json(plan_document(plan))
    else:
        result(as_text(plan))
    for warning in plan.warnings:
        say(f"tuner: {warning}")
    conclude(plan)


def conclude(plan: "Plan") -> None:
    """End with the exit code of a plan: refused, not known, or fine."""
    refuse(plan)
    undecided = plan.lookup.verdict is None or plan.lookup.verdict.word is Word.INCONCLUSIVE
    if undecided and needs_verdict(plan) and not is_settled(plan):
        raise SystemExit(ExitCode.UNKNOWN)


def needs_verdict(plan: "Plan") -> bool:
    """Whether the flag can do anything in this vLLM; where it cannot, a missing verdict changes nothing."""
    return plan.flag.status not in {FlagStatus.INERT, FlagStatus.ABSENT}


def is_settled(plan: "Plan") -> bool:
    """Whether this launch is decided, whatever is known of the plain one: it counts, or has nothing to lose."""
    proof = plan.proof
    counts = proof.finding is not None and proof.finding.proved
    return proof.is_decided and (not counts or plan.decision.setting is True)


def refuse(plan: "Plan") -> None:
    """End here if the launch must not happen."""
    if plan.decision.refusal is not Refusal.NONE:
        unsafe = plan.decision.refusal is Refusal.UNSAFE
        complain("This launch is refused.", "; ".join(sentences(plan.refusal_reasons)))
        raise SystemExit(ExitCode.REFUSED if unsafe else ExitCode.UNKNOWN)


def print_json(document: Mapping[str, Any]) -> None:
    """One document on stdout."""
    result(json.dumps(document, indent=2, ensure_ascii=False))


def result(text: str, end: str = "\n") -> None:
    """A result, on stdout; what its encoding lacks is written as an escape, which JSON reads back.

    A result that cannot be written ends the command with 1. Nothing is said where the reader went away, as `head` does.
    """
    if sys.stdout is None:
        say("tuner: The result cannot be written: standard output is closed.")
        raise SystemExit(ExitCode.ERROR)
    encoding = sys.stdout.encoding
    try:
        sys.stdout.write((text + end).encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except OSError as error:
        end_unwritten(error)


def end_unwritten(error: OSError) -> NoReturn:
    """End with 1 because a result cannot be written; `error` is what the system said."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains once more at its end
    if not isinstance(error, BrokenPipeError):
        say(f"tuner: The result cannot be written: {error.strerror}.")
    raise SystemExit(ExitCode.ERROR) from None


def say(sentence: str) -> None:
    """Write to stderr what is not a result, as one line: a name of others cannot begin a line or move the cursor.

    Where stderr is closed or full, nothing is written, and the command goes on. With `--quiet` only errors are written.
    """
    if not _STATE["quiet"]:
        _write(sentence)


def set_quiet(quiet: bool) -> None:
    """From now on write only errors to stderr, or everything."""
    _STATE["quiet"] = quiet


def is_quiet() -> bool:
    """Whether progress, notes and warnings are left out."""
    return _STATE["quiet"]


def _write(sentence: str, indent: str = "") -> None:
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(folded(visible(sentence), first=indent, stream=sys.stderr) + "\n")
        sys.stderr.flush()
    except OSError:
        # What is left in its buffer would be written once more at Python's end, and make that fail.
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  for all that follows


def say_without_waiting(sentence: str) -> None:
    """As `say`, for a command that must go on although nobody reads a pipe that is full."""
    if sys.stderr is None or _takes_text(sys.stderr):
        say(sentence)


def _takes_text(stream: TextIO) -> bool:
    """Whether a sentence can be written now; only a pipe or a socket is asked, which has room for 4096 bytes then."""
    try:
        mode = os.fstat(stream.fileno()).st_mode
        if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
            return True
        import select  # pipes only

        return bool(select.select([], [stream], [], _PATIENCE_S)[1])
    except (OSError, ValueError):  # it is closed, or its number too high
        return True

"""What every command shares on its way out: the error boundary, results on stdout, the rest on stderr."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from cache.errors import StoreError
from rules.decide import Refusal
from rules.errors import RuleError
from rules.verdict import Word
from tuner.errors import ExitCode, TunerError

if TYPE_CHECKING:
    from tuner.plan import Plan


@contextmanager
def failures(as_json: bool, name: str | None = None) -> Iterator[None]:
    """Turn known failures into a sentence on stderr, a document on stdout if asked for, and an exit code."""
    try:
        yield
    except (TunerError, StoreError, RuleError) as error:
        from tuner.document import failure_document

        failure = error if isinstance(error, TunerError) else TunerError(error.message, hint=error.hint, kind="store")
        complain(failure, None)
        if as_json:
            print_json(failure_document(name, failure))
        raise typer.Exit(failure.exit_code) from None
    except KeyboardInterrupt:
        typer.echo("tuner: stopped", err=True)
        raise typer.Exit(130) from None


def complain(failure: TunerError | None, name: str | None) -> None:
    """Say on stderr what is wrong and what to do next."""
    if failure is None:
        return
    about = f"{name}: " if name else ""
    typer.echo(f"tuner: {about}{failure.message}", err=True)
    if failure.hint:
        typer.echo(f"  {failure.hint}", err=True)


def present(made: "Plan", as_json: bool, as_text: Callable[["Plan"], str]) -> None:
    """Print a plan, warn, and end with its exit code."""
    from tuner.document import plan_document

    if as_json:
        print_json(plan_document(made))
    else:
        typer.echo(as_text(made))
    for warning in made.warnings:
        typer.echo(f"tuner: {warning}", err=True)
    conclude(made)


def conclude(made: "Plan") -> None:
    """End with the exit code of a plan: refused, unknown, or done."""
    refuse(made)
    if made.found.verdict is None or made.found.verdict.word is Word.INCONCLUSIVE:
        raise typer.Exit(ExitCode.UNKNOWN)


def refuse(made: "Plan") -> None:
    """End here if the launch must not happen."""
    if made.decision.refusal is not Refusal.NONE:
        unsafe = made.decision.refusal is Refusal.UNSAFE
        complain(TunerError("this launch is refused", hint="; ".join(made.decision.reasons)), None)
        raise typer.Exit(ExitCode.UNSAFE if unsafe else ExitCode.UNKNOWN)


def print_json(document: Mapping[str, Any]) -> None:
    """One document on stdout."""
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))

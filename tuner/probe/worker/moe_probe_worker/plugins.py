"""vLLM's general plugins, loaded as vLLM loads them, and what those that fail raise."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from shared_worker.errors import described

LOGGER = "vllm.plugins"
SHOWN = 3
"""How many plugins' errors a message quotes."""


class FailedToLoad(logging.Handler):
    """Collects what vLLM logs and swallows where a plugin cannot be imported (vllm/plugins/__init__.py)."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.failures: list[dict[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record that carries an exception, with the plugin that it names."""
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            name = str(record.args[0]) if isinstance(record.args, tuple) and record.args else "without a name"
            self.failures.append({"plugin": name, **described(error)})


def load() -> list[dict[str, str]]:
    """Load the general plugins.

    Returns:
        `plugin`, `message` and `where` of each that could not be imported; vLLM goes on without it.

    Raises:
        Exception: what a plugin's own function raised, which ends a server too; `plugin` on it names the plugin.
    """
    from vllm.plugins import load_general_plugins

    with collected() as failures, named():
        load_general_plugins()
    return failures


@contextmanager
def collected() -> Iterator[list[dict[str, str]]]:
    """The list into which failures to load come while the block runs."""
    handler, logger = FailedToLoad(), logging.getLogger(LOGGER)
    logger.addHandler(handler)
    try:
        yield handler.failures
    finally:
        logger.removeHandler(handler)


@contextmanager
def named() -> Iterator[None]:
    """Put the plugin's name on an exception that its function raises."""
    try:
        yield
    except Exception as error:
        setattr(error, "plugin", failed_plugin(error))  # noqa: B010  no attribute of an exception
        raise


def failed_plugin(error: BaseException) -> str:
    """The plugin whose function raised, by what vLLM's loop over them was about; empty if it cannot be told."""
    trace = error.__traceback__
    while trace is not None:
        variables = trace.tb_frame.f_locals
        if trace.tb_frame.f_code.co_name == "load_general_plugins" and isinstance(variables.get("plugins"), dict):
            return name_of(variables["plugins"], variables.get("func"))
        trace = trace.tb_next
    return ""


def name_of(functions: dict[str, Any], function: object) -> str:
    """The name under which a function stands among others; empty if it does not."""
    for name, other in functions.items():
        if other is function:
            return name
    return ""


def words(failures: list[dict[str, str]]) -> str:
    """The failures in one line, each with its place; empty without any."""
    return ", ".join(map("{plugin} ({message}, at {where})".format_map, failures[:SHOWN]))

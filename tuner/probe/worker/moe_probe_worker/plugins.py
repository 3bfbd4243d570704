"""Loads vLLM's general plugins as vLLM does, and collects the errors of those that fail."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from shared_worker.errors import error_fields

LOGGER = "vllm.plugins"
MAX_QUOTED = 3
"""The most failures that a message lists."""


class FailedToLoad(logging.Handler):
    """Collects the exceptions of plugins that cannot be imported. vLLM only logs these (vllm/plugins/__init__.py)."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.failures: list[dict[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Store the exception of a log record and the name of the plugin. Records without an exception are ignored."""
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            name = str(record.args[0]) if isinstance(record.args, tuple) and record.args else "without a name"
            self.failures.append({"plugin": name, **error_fields(error)})


def load() -> list[dict[str, str]]:
    """Load the general plugins.

    Returns:
        `plugin`, `message` and `where` for each plugin that could not be imported. vLLM continues without it.

    Raises:
        Exception: what a plugin's own function raised, which ends a server too. Its attribute `plugin` is the name.
    """
    from vllm.plugins import load_general_plugins

    with collect_failures() as failures, add_plugin_name():
        load_general_plugins()
    return failures


@contextmanager
def collect_failures() -> Iterator[list[dict[str, str]]]:
    """Collect the plugins that fail to load in the block. Yields the list of failures."""
    handler, logger = FailedToLoad(), logging.getLogger(LOGGER)
    logger.addHandler(handler)
    try:
        yield handler.failures
    finally:
        logger.removeHandler(handler)


@contextmanager
def add_plugin_name() -> Iterator[None]:
    """Add the plugin's name to an exception from the block, as the attribute `plugin`."""
    try:
        yield
    except Exception as error:
        setattr(error, "plugin", failed_plugin(error))  # noqa: B010  mypy does not know this attribute
        raise


def failed_plugin(error: BaseException) -> str:
    """The name of the plugin whose function raised, from the variables of vLLM's loop. Empty if unknown."""
    trace = error.__traceback__
    while trace is not None:
        variables = trace.tb_frame.f_locals
        if trace.tb_frame.f_code.co_name == "load_general_plugins" and isinstance(variables.get("plugins"), dict):
            return name_of(variables["plugins"], variables.get("func"))
        trace = trace.tb_next
    return ""


def name_of(functions: dict[str, Any], function: object) -> str:
    """The key of a function in a dict of functions. Empty if it is not there."""
    for name, other in functions.items():
        if other is function:
            return name
    return ""


def words(failures: list[dict[str, str]]) -> str:
    """The first failures in one line, with message and place. Empty if there are none."""
    quoted = [f"{entry['plugin']} ({entry['message']}, at {entry['where']})" for entry in failures[:MAX_QUOTED]]
    return ", ".join(quoted)

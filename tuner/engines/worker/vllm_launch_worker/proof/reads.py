"""What the code of a launch reads besides its arguments: environment variables, fields of vLLM's config, its files.

Two launches are alike if they differ only in what nobody read. Reads are noted while the config and the model are
built. While Dynamo traces, its guards show them: Dynamo would trace our own recorder, too.
"""

import hashlib
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any

from shared_worker.vllm_types import VllmConfig
from vllm_launch_worker.proof.tracing import Guard

ATTRIBUTE = re.compile(r"\.(\w+)|\['(\w+)'\]")
VARIABLE = re.compile(r"environ.{0,40}?\[b?'(\w+)'\]|\.([A-Z][A-Z0-9]*_[A-Z0-9_]+)\b")
"""In a guard's name: a key of `os.environ`, which holds bytes, or an entry of `vllm.envs`."""
CAPITALS = re.compile(r"[A-Z][A-Z0-9_]*")
READERS = frozenset(("environ", "getenv", "environb"))


class Reads:
    """Notes of reads.

    Attributes:
        environ: the variables before vLLM sets some itself.
        variables: names of the environment variables.
        fields: fields of vLLM's config, `scheduler_config.max_num_seqs`.
        codes: the code objects of all Python functions that ran, without import hooks.
        listed: files whose code read every variable at once.
    """

    def __init__(self) -> None:
        self.environ: dict[str, str] = dict(os.environ)
        self.variables: set[str] = set()
        self.fields: set[str] = set()
        self.codes: set[CodeType] = set()
        self.listed: set[str] = set()

    @contextmanager
    def of_variables(self) -> Iterator[None]:
        """Note each environment variable that Python reads in the block."""
        kind: Any = type(os.environ)
        get, listing = kind.__getitem__, kind.__iter__
        places: set[tuple[str, int]] = set()

        def read(environ: Any, name: Any) -> Any:
            if reader() not in places:
                self.variables.add(os.fsdecode(name) if isinstance(name, bytes) else str(name))
            return get(environ, name)

        def listed(environ: Any) -> Any:
            place = reader()
            places.add(place)
            self.listed.add(place[0])
            return listing(environ)

        kind.__getitem__, kind.__iter__ = read, listed
        try:
            yield
        finally:
            kind.__getitem__, kind.__iter__ = get, listing

    @contextmanager
    def of_fields(self, vllm_config: VllmConfig) -> Iterator[None]:
        """Note each field that is read of a config below this one."""
        owners: dict[type[Any], str] = {}
        for name, part in vars(vllm_config).items():
            if hasattr(part, "__dataclass_fields__"):
                owners[type(part)] = name
        patched = [self._watch(kind, name) for kind, name in owners.items()]
        try:
            yield
        finally:
            for kind, attribute in patched:
                kind.__getattribute__ = attribute

    def _watch(self, kind: Any, owner: str) -> tuple[Any, Callable[..., Any]]:
        """Note reads of every config of this class: a model gives its parts copies of the config."""
        attribute: Callable[..., Any] = kind.__getattribute__
        fields = frozenset(kind.__dataclass_fields__)
        watched = fields | {"__dict__"}

        def read(part: Any, name: Any) -> Any:
            if name in watched and not is_beside(sys._getframe(1)):
                names = fields if name == "__dict__" else (name,)
                self.fields.update(f"{owner}.{field}" for field in names)
            return attribute(part, name)

        kind.__getattribute__ = read
        return kind, attribute

    @contextmanager
    def of_code(self) -> Iterator[None]:
        """Note every Python function that runs in the block."""
        codes = self.codes

        def note(frame: FrameType, _event: str, _argument: Any) -> None:
            if frame.f_code not in codes and not is_import_hook(frame):
                codes.add(frame.f_code)

        sys.settrace(note)
        threading.settrace(note)
        try:
            yield
        finally:
            sys.settrace(None)
            threading.settrace(None)

    def of_guards(self, guards: list[Guard], vllm_config: VllmConfig) -> None:
        """Note what guards show: an attribute with the name of a field of some config counts as this field."""
        owners: dict[str, list[str]] = {}
        for name, part in vars(vllm_config).items():
            for field in getattr(part, "__dataclass_fields__", ()):
                owners.setdefault(field, []).append(name)
        for guard in guards:
            for match in ATTRIBUTE.finditer(guard["name"]):
                attribute = match[1] or match[2]
                self.fields.update(f"{owner}.{attribute}" for owner in owners.get(attribute, ()))
            for match in VARIABLE.finditer(guard["name"]):
                self.variables.add(match[1] or match[2])

    def of_traced(self, codes: set[CodeType]) -> None:
        """Note the variables that traced functions may read: no guard shows a variable that is not set."""
        for code in codes:
            if READERS.isdisjoint(code.co_names):
                continue
            for value in code.co_consts:
                if isinstance(value, str) and CAPITALS.fullmatch(value):
                    self.variables.add(value)


WHOLE = ("copy", "copyreg", "functools")
"""Python's own modules that read an object's dictionary, to copy the object or to keep a result there."""
CONFIGS, EXPERTS = "vllm.config", "vllm.model_executor.layers.fused_moe"


def is_import_hook(frame: FrameType) -> bool:
    """Whether Python's import system called this code, and the code is not an imported module itself.

    Environments bring their own hooks (virtualenv's `_virtualenv.py`). Like all that Python runs at its start, they
    belong to the environment.
    """
    own = frame.f_code.co_filename
    caller: FrameType | None = frame
    while caller is not None and caller.f_code.co_filename == own:
        if caller.f_code.co_name == "<module>":
            return False
        caller = caller.f_back
    return caller is not None and caller.f_code.co_filename.startswith("<frozen importlib")


def reader() -> tuple[str, int]:
    """File and line of the code that reads a variable: the innermost frame outside of Python's own mapping.

    Code that copies all variables lists them and then reads each, in one line.
    """
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_globals.get("__name__") in MAPPING:
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


MAPPING = ("os", "collections.abc", "_collections_abc")


def is_beside(frame: FrameType) -> bool:
    """Whether the code that makes a read cannot change which MoE layer is called.

    vLLM's configs read each other when one of them is copied or written out, and a copy is watched like the original. A
    MoE layer and the quantisation of its experts use what they read only inside the operator, after the layer was
    resolved.
    """
    module = frame.f_globals.get("__name__", "")
    if module in WHOLE or module.startswith((f"{CONFIGS}.", f"{EXPERTS}.")):
        return True
    kinds = type(frame.f_locals.get("self")).__mro__
    return any(kind.__module__.startswith(f"{EXPERTS}.") for kind in kinds)


def values(names: set[str], environ: dict[str, str]) -> dict[str, str]:
    """Name of a variable -> sha256 of its value, empty if it is not set."""
    digests = {}
    for name in sorted(names):
        value = environ.get(name)
        digests[name] = "" if value is None else hashlib.sha256(value.encode(errors="surrogateescape")).hexdigest()
    return digests

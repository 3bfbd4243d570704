"""Records what a launch reads besides its arguments: environment variables, fields of vLLM's config, and its code.

If two launches differ only in values that were not read, the proof of one holds for the other. While the config and the
model are built, patched functions record the reads. During a trace they cannot, because Dynamo would trace them, too.
There the reads come from Dynamo's guards.
"""

import hashlib
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from shared_worker.vllm_types import VllmConfig
from vllm_launch_worker.proof.origin import Origins, is_of_worker, is_standard
from vllm_launch_worker.proof.tracing import Guard

ATTRIBUTE = re.compile(r"\.(\w+)|\['(\w+)'\]")
VARIABLE = re.compile(r"environ.{0,40}?\[b?'(\w+)'\]|\.([A-Z][A-Z0-9]*_[A-Z0-9_]+)\b")
"""Matches a variable in a guard's name: a key of `os.environ`, which may be bytes, or an attribute of `vllm.envs`."""
CAPITALS = re.compile(r"[A-Z][A-Z0-9_]*")
READERS = frozenset(("environ", "getenv", "environb"))
TOOLCHAIN = frozenset(("CC", "CUDA_HOME", "CUDA_PATH", "CXX", "LD_LIBRARY_PATH", "PATH"))
"""Variables that say where compilers, programs and libraries lie. They differ from machine to machine."""


class Reads:
    """A record of reads.

    Attributes:
        environ: the environment variables of the launch, copied before vLLM sets any.
        variables: the names of the environment variables that were read, but for those in `searched`.
        searched: name of each variable of `TOOLCHAIN` that was read -> for each read what `callers` returns.
        fields: the fields of vLLM's config that were read, such as `scheduler_config.max_num_seqs`.
        codes: the code objects of all Python functions that ran, except import hooks.
        listed: the files whose code listed all environment variables.
    """

    def __init__(self) -> None:
        self.environ: dict[str, str] = dict(os.environ)
        self.variables: set[str] = set()
        self.searched: dict[str, set[tuple[str, ...]]] = {}
        self.fields: set[str] = set()
        self.codes: set[CodeType] = set()
        self.listed: set[str] = set()

    @contextmanager
    def of_variables(self) -> Iterator[None]:
        """While the block runs, record each environment variable that Python code reads."""
        kind: Any = type(os.environ)
        get, listing = kind.__getitem__, kind.__iter__
        places: set[tuple[str, int]] = set()

        def read(environ: Any, name: Any) -> Any:
            if reader() not in places:
                self._read(os.fsdecode(name) if isinstance(name, bytes) else str(name))
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

    def _read(self, name: str) -> None:
        if name in TOOLCHAIN:
            self.searched.setdefault(name, set()).add(callers())
        else:
            self.variables.add(name)

    def variables_of(self, origins: Origins) -> set[str]:
        """The variables that count: all that were read, but for the toolchain's where only packages asked for it."""
        counting = set(self.variables)
        for name, reads in self.searched.items():
            if not all(is_search_of_package(files, origins) for files in reads):
                counting.add(name)
        return counting

    @contextmanager
    def of_fields(self, vllm_config: VllmConfig) -> Iterator[None]:
        """While the block runs, record each field that is read from a part of this config."""
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
        """Record reads from every object of this class, because a model passes copies of the config to its parts.

        Args:
            kind: the class of a part of the config.
            owner: the name of the part, such as `scheduler_config`.

        Returns:
            The class, and the `__getattribute__` that it had before.
        """
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
        """While the block runs, record every Python function that runs."""
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
        """Record the reads that guards show.

        If an attribute in a guard has the name of a config field, the field counts as read.
        """
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
        """Record the environment variables that traced functions may read.

        Guards do not show a variable that is not set. So if a function uses one of `READERS`, each string in capitals
        in it counts as a variable.
        """
        for code in codes:
            if READERS.isdisjoint(code.co_names):
                continue
            for value in code.co_consts:
                if isinstance(value, str) and CAPITALS.fullmatch(value):
                    self.variables.add(value)


WHOLE = ("copy", "copyreg", "functools")
"""Python's own modules that read an object's `__dict__`, to copy the object or to store a result in it."""
CONFIGS, EXPERTS = "vllm.config", "vllm.model_executor.layers.fused_moe"


def is_import_hook(frame: FrameType) -> bool:
    """Whether Python's import system called this code, and the code is not the body of an imported module.

    Some environments install import hooks, such as virtualenv's `_virtualenv.py`. They belong to the environment, like
    all code that Python runs when it starts.
    """
    own = frame.f_code.co_filename
    caller: FrameType | None = frame
    while caller is not None and caller.f_code.co_filename == own:
        if caller.f_code.co_name == "<module>":
            return False
        caller = caller.f_back
    return caller is not None and caller.f_code.co_filename.startswith("<frozen importlib")


def reader() -> tuple[str, int]:
    """The file and line of the code that reads a variable: the innermost frame outside of the modules `MAPPING`.

    Code that copies all variables first lists them and then reads each of them, in the same line.
    """
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_globals.get("__name__") in MAPPING:
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


def callers() -> tuple[str, ...]:
    """The files of the code that waits for a variable, innermost first, without Python's own and this worker's."""
    files = []
    frame: FrameType | None = sys._getframe(3)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith("<") and not is_of_worker(file) and not is_standard(Path(file)):
            files.append(file)
        frame = frame.f_back
    return tuple(files)


def is_search_of_package(files: tuple[str, ...], origins: Origins) -> bool:
    """Whether a package that vLLM requires, and nobody for whom it may do so, looks for a program or a library.

    torch, Triton and their like look for compilers, which run after the trace. vLLM itself may choose another backend
    by what it finds. Somebody else's code may go by what a package finds for it, wherever it stands in the stack.

    Args:
        files: what `callers` returned.
        origins: whose files they are.
    """
    return bool(files) and not origins.is_own(files[0]) and all(origins.is_trusted(file) for file in files)


MAPPING = ("os", "collections.abc", "_collections_abc")
"""The modules with the code of `os.environ`."""


def is_beside(frame: FrameType) -> bool:
    """Whether the code that reads a field cannot change which MoE layers are called.

    This is true for two kinds of code. vLLM's configs read each other when one of them is copied or printed, and reads
    from the copy are recorded, too. A MoE layer and the quantisation of its experts use a field only inside the MoE
    operator, after vLLM chose the layer.
    """
    module = frame.f_globals.get("__name__", "")
    if module in WHOLE or module.startswith((f"{CONFIGS}.", f"{EXPERTS}.")):
        return True
    kinds = type(frame.f_locals.get("self")).__mro__
    return any(kind.__module__.startswith(f"{EXPERTS}.") for kind in kinds)


def values(names: set[str], environ: dict[str, str]) -> dict[str, str]:
    """Name of each variable -> sha256 of its value in hexadecimal digits, or an empty string if it is not set."""
    digests = {}
    for name in sorted(names):
        value = environ.get(name)
        digests[name] = "" if value is None else hashlib.sha256(value.encode(errors="surrogateescape")).hexdigest()
    return digests

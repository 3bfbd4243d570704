"""What the code of a launch reads beside its arguments: environment variables, fields of vLLM's config, its own files.

Two launches that differ only in what nobody read are alike. Reads are noted while the config and the model are built.
While Dynamo traces, its guards tell of them, for a recorder of ours would be traced, too.
"""

import hashlib
import os
import re
import sys
import threading
from contextlib import contextmanager

ATTRIBUTE = re.compile(r"\.(\w+)|\['(\w+)'\]")
VARIABLE = re.compile(r"environ.{0,40}?\[b?'(\w+)'\]|\.([A-Z][A-Z0-9]*_[A-Z0-9_]+)\b")
"""In a guard's name: a key of `os.environ`, which holds bytes, or an entry of `vllm.envs`."""
CAPITALS = re.compile(r"[A-Z][A-Z0-9_]*")
READERS = frozenset(("environ", "getenv", "environb"))


class Reads:
    """Notes of what was read.

    Attributes:
        environ: the variables when the process began: vLLM sets some itself.
        variables: names of the environment variables.
        fields: fields of vLLM's config, `scheduler_config.max_num_seqs`.
        codes: the code objects of all Python functions that ran, import hooks left out.
        listed: files whose code read every variable at once.
    """

    def __init__(self) -> None:
        self.environ: dict = dict(os.environ)
        self.variables: set = set()
        self.fields: set = set()
        self.codes: set = set()
        self.listed: set = set()

    @contextmanager
    def of_variables(self):
        """Note each environment variable that Python reads in the block."""
        kind = type(os.environ)
        get, listing = kind.__getitem__, kind.__iter__
        places: set = set()

        def read(environ, name):
            if reader() not in places:
                self.variables.add(os.fsdecode(name) if isinstance(name, bytes) else str(name))
            return get(environ, name)

        def listed(environ):
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
    def of_fields(self, vllm_config):
        """Note each field that is read of a config below this one."""
        parts = {type(part): name for name, part in vars(vllm_config).items() if hasattr(part, "__dataclass_fields__")}
        patched = [self._watch(kind, name) for kind, name in parts.items()]
        try:
            yield
        finally:
            for kind, attribute in patched:
                kind.__getattribute__ = attribute

    def _watch(self, kind, owner: str) -> tuple:
        """Note reads of every config of this class: a model with parts gives them copies of its own."""
        attribute = kind.__getattribute__
        fields = frozenset(kind.__dataclass_fields__)
        watched = fields | {"__dict__"}

        def read(part, name):
            if name in watched and not is_beside(sys._getframe(1)):
                self.fields.update(f"{owner}.{field}" for field in (fields if name == "__dict__" else (name,)))
            return attribute(part, name)

        kind.__getattribute__ = read
        return kind, attribute

    @contextmanager
    def of_code(self):
        """Note every Python function that runs in the block."""
        codes = self.codes

        def note(frame, _event, _argument):
            if frame.f_code not in codes and not is_import_hook(frame):
                codes.add(frame.f_code)

        sys.settrace(note)
        threading.settrace(note)
        try:
            yield
        finally:
            sys.settrace(None)
            threading.settrace(None)

    def of_guards(self, guards: list, vllm_config) -> None:
        """Note what guards tell: an attribute that is called as a field of some config counts as this field."""
        owners: dict = {}
        for name, part in vars(vllm_config).items():
            for field in getattr(part, "__dataclass_fields__", ()):
                owners.setdefault(field, []).append(name)
        for guard in guards:
            for match in ATTRIBUTE.finditer(guard["name"]):
                attribute = match[1] or match[2]
                self.fields.update(f"{owner}.{attribute}" for owner in owners.get(attribute, ()))
            for match in VARIABLE.finditer(guard["name"]):
                self.variables.add(match[1] or match[2])

    def of_traced(self, codes: set) -> None:
        """Note what traced functions may ask the environment for: no guard tells of a variable that is not set."""
        for code in codes:
            if READERS.intersection(code.co_names):
                texts = [value for value in code.co_consts if isinstance(value, str)]
                self.variables.update(text for text in texts if CAPITALS.fullmatch(text))


WHOLE = ("copy", "copyreg", "functools")
"""Modules of Python's that ask an object for its dictionary, to copy it or to keep a result there."""
CONFIGS, EXPERTS = "vllm.config", "vllm.model_executor.layers.fused_moe"


def is_import_hook(frame) -> bool:
    """Whether Python's import system called this code, and it is no module that is imported.

    Environments bring hooks of their own (virtualenv's `_virtualenv.py`): like all that Python runs at its own start,
    they belong to the environment.
    """
    own = frame.f_code.co_filename
    while frame is not None and frame.f_code.co_filename == own:
        if frame.f_code.co_name == "<module>":
            return False
        frame = frame.f_back
    return frame is not None and frame.f_code.co_filename.startswith("<frozen importlib")


def reader() -> tuple:
    """File and line of the code that reads a variable: the innermost frame that is not of Python's own mapping.

    Code that copies all variables lists them and then reads each, in one line.
    """
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_globals.get("__name__") in MAPPING:
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


MAPPING = ("os", "collections.abc", "_collections_abc")


def is_beside(frame) -> bool:
    """Whether a read cannot change which MoE layer is called, by who makes it.

    vLLM's configs read each other when one is copied or written out, and a copy is watched as the first is. A MoE
    layer and the quantisation of its experts keep what they read for the inside of the operator, after the layer was
    resolved.
    """
    module = frame.f_globals.get("__name__", "")
    if module in WHOLE or module.startswith((f"{CONFIGS}.", f"{EXPERTS}.")):
        return True
    kinds = type(frame.f_locals.get("self")).__mro__
    return any(kind.__module__.startswith(f"{EXPERTS}.") for kind in kinds)


def values(names: set, environ: dict) -> dict:
    """Variable -> sha256 of its value in these, empty if it is not set."""
    digests = {}
    for name in sorted(names):
        value = environ.get(name)
        digests[name] = "" if value is None else hashlib.sha256(value.encode(errors="surrogateescape")).hexdigest()
    return digests

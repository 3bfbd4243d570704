"""Watches the model's own functions while passes run: who called what, and which way each branch went.

`sys.settrace`, confined to functions that hold a module with a MoE layer in it.
Outcomes are kept by progress, the number of MoE calls the pass has made so
far: the same line in the third decoder layer is another decision than in the first.
"""

import inspect
import sys
from contextlib import contextmanager

from moe_probe_worker.functions import Function, NoSource
from moe_probe_worker.owners import OUTSIDE, Owners

UNTOLD = "untold"
"""The outcome of a condition that was evaluated, where what followed belongs to none of its arms."""
PLAIN = (bool, int, float, str, bytes, type(None))
MOST_ITEMS = 64
"""Items of a collection that are compared one by one."""


class Trace:
    """What was seen of one model's functions.

    Attributes:
        functions: code object -> its text, for every function watched.
        sites: code object -> offsets of calls in it that led to a MoE layer.
        edges: code object -> {(calling function, offset)}; the caller is None where the pass begins.
        instances: code object -> the objects it ran as a method of.
        mutable: attribute names that changed between passes, or that a watched function sets.
        outcomes: branch -> progress -> outcomes taken.
        reached: branches whose condition, or what bounds the loop, was evaluated.
        forced: (branch, progress) whose outcome the constants of its condition decide alone.
        trouble: functions on the way to a MoE layer whose text is missing.
    """

    def __init__(self, model, owners: Owners) -> None:
        self.model, self.owners = model, owners
        self.functions: dict = {}
        self.sites: dict = {}
        self.edges: dict = {}
        self.instances: dict = {}
        self.mutable: set = set()
        self.outcomes: dict = {}
        self.forced: set = set()
        self.reached: set = set()
        self.trouble: dict = {}
        self.progress = 0
        self._held_owner: dict = {}
        self._seen_methods: dict = {}
        self._defaults: dict = {}
        self._watched: dict = {}
        self._outside: dict = {}
        self._state: dict = {}
        self._taken: list = []

    def function(self, code, space: dict) -> Function:
        """The text of a function, read once.

        Raises:
            NoSource: it is not there.
        """
        if code not in self.functions:
            around = next((one for one in self.functions.values() if code in one.code.co_consts), None)
            self.functions[code] = Function(code, space, around)
        return self.functions[code]

    def held_owner(self, function: Function, name: str):
        """Whether a local name ever stood for what leads to a MoE layer; None if it was never seen."""
        return self._held_owner.get((function.code, name))

    def methods(self, function: Function, name: str) -> list:
        """Functions and methods that a local name was seen to stand for."""
        return list(self._seen_methods.get((function.code, name), {}).values())

    def left_out(self, function: Function, name: str) -> bool:
        """Whether the parameter had its default value in every call that was seen."""
        return self._defaults.get((function.code, name), False)

    def watch(self, branches: list) -> None:
        """Record the outcomes of these branches from now on."""
        for branch in branches:
            plan = self._watched.setdefault(branch.function.code, ({}, {}))
            for outcome, offsets in branch.places().items():
                for at in offsets if not branch.is_jump else ():
                    plan[1].setdefault(at, []).append((branch, outcome))
            for at in branch.function.offsets(branch.test) if branch.test is not None else ():
                plan[0].setdefault(at, []).append(branch)
            self.outcomes.setdefault(branch, {})

    def called(self) -> None:
        """A MoE layer was called just now: note the way that led to it."""
        self.progress += 1
        way, frame = [], sys._getframe(1)
        while frame is not None and not begins_pass(frame.f_code):
            way.append(frame)
            frame = frame.f_back
        for one in reversed([frame for frame in way if not self._is_outside(frame.f_code)]):
            self.sites.setdefault(one.f_code, set()).add(one.f_lasti)
            self._admit(one, needed=True)

    @contextmanager
    def watching(self):
        """Trace the pass that runs in this context.

        What a pass took that raised in the end does not count: which layers would have followed is not known.
        """
        self.progress, before = 0, sys.gettrace()
        self._taken = []
        sys.settrace(self._enter)
        try:
            yield
        finally:
            sys.settrace(before)
            self._compare_state()
        for branch, progress, outcome in self._taken:
            self.outcomes[branch].setdefault(progress, set()).add(outcome)

    def _enter(self, frame, event: str, _arg):
        if event != "call" or self._is_outside(frame.f_code):
            return None
        function = self._admit(frame, needed=False)
        if function is None:
            return None
        plan = self._watched.get(function.code, ({}, {}))
        frame.f_trace_lines, frame.f_trace_opcodes = False, any(plan)
        return Activation(self, function, plan).event

    def _is_outside(self, code) -> bool:
        answer = self._outside.get(code)
        if answer is None:
            file = code.co_filename
            top = file.rpartition("/site-packages/")[2].partition("/")[0]
            standard = "/site-packages/" not in file and "/lib/python3" in file
            answer = standard or file.startswith("<") or top == "torch" or any(part in file for part in OUTSIDE)
            self._outside[code] = answer
        return answer

    def _admit(self, frame, *, needed: bool):
        """The function of this frame, if it leads to a MoE layer or holds what does."""
        code = frame.f_code
        if code.co_name.startswith("<") and code.co_name != "<lambda>":
            return None  # a comprehension belongs to the function around it
        held = frame.f_locals
        if not needed and code not in self.sites and not any(map(self.owners.owns, held.values())):
            return None
        try:
            function = self.function(code, frame.f_globals)
        except NoSource as error:
            self.trouble[code] = str(error)
            return None
        self._note(frame, function, held)
        if not needed:
            self._note_defaults(function, held)
        return function

    def _note(self, frame, function: Function, held: dict) -> None:
        code, first = function.code, function.parameters[:1]
        owner = held.get(first[0]) if first else None
        known = self.instances.setdefault(code, [])
        if isinstance(owner, self.owners.module) and not any(owner is one for one in known):
            known.append(owner)
        caller = frame.f_back
        while caller is not None and self.functions.get(caller.f_code) is None:
            caller = caller.f_back
        edge = (self.functions[caller.f_code], caller.f_lasti) if caller else (None, 0)
        self.edges.setdefault(code, set()).add(edge)

    def _note_defaults(self, function: Function, held: dict) -> None:
        """At the start of a call: which parameters have their default values."""
        defaults = default_values(function.code, held.get(function.parameters[0]) if function.parameters else None)
        for name in function.parameters:
            same = name in defaults and held.get(name) is defaults[name]
            key = (function.code, name)
            self._defaults[key] = self._defaults.get(key, True) and same

    def leave(self, function: Function, held: dict) -> None:
        """Note what the local names stood for at the end."""
        for name, value in held.items():
            key = (function.code, name)
            self._held_owner[key] = self._held_owner.get(key, False) or self.owners.owns(value)
            if inspect.ismethod(value) or inspect.isfunction(value):
                known = self._seen_methods.setdefault(key, {})
                known.setdefault((value.__code__, id(getattr(value, "__self__", None))), value)

    def take(self, branch, progress: int, outcome: str) -> None:
        """A branch went this way."""
        self._taken.append((branch, progress, outcome))

    def _compare_state(self) -> None:
        """Attributes of the model that are not as they were after the last pass."""
        now = state_of(self.model)
        if self._state:
            self.mutable |= {key[1] for key in now.keys() | self._state.keys() if now.get(key) != self._state.get(key)}
        self._state = now


class Activation:
    """One call of a watched function: follows its instructions."""

    def __init__(self, trace: Trace, function: Function, plan: tuple) -> None:
        self.trace, self.function = trace, function
        self.tests, self.arms = plan
        self.pending: dict = {}

    def event(self, frame, event: str, _arg):
        """The local trace function."""
        if event == "opcode":
            self._step(frame)
        elif event == "exception":
            self.pending.clear()
        elif event == "return":
            self._settle(None)
            self.trace.leave(self.function, frame.f_locals)
        return self.event

    def _step(self, frame) -> None:
        at = frame.f_lasti
        inside = self.tests.get(at, ())
        if self.pending:
            self._settle(at, inside)
        self.trace.reached.update(inside)
        for branch in inside:
            if branch.is_jump and branch not in self.pending:
                self.pending[branch] = self.trace.progress
                if branch.guard is not None and branch.guard(frame) is not None:
                    self.trace.forced.add((branch, self.trace.progress))
        for branch, outcome in self.arms.get(at, ()):
            self.trace.take(branch, self.trace.progress, outcome)

    def _settle(self, at, inside=()) -> None:
        """Conditions whose evaluation is over: the next instruction tells their outcome."""
        for branch in [one for one in self.pending if one not in inside and at not in one.machinery]:
            self.trace.take(branch, self.pending.pop(branch), branch.outcome(at) or UNTOLD)


def begins_pass(code) -> bool:
    """Whether this is the worker's own function that calls the model."""
    return code.co_name == "_forward" and code.co_filename.endswith("passes.py")


def default_values(code, owner) -> dict:
    """Default values of the parameters of the method that this code belongs to."""
    method = inspect.unwrap(getattr(type(owner), code.co_name, None) or (lambda: None))
    if getattr(method, "__code__", None) is not code:
        return {}
    parameters = inspect.signature(method).parameters.values()
    return {one.name: one.default for one in parameters if one.default is not inspect.Parameter.empty}


def state_of(model) -> dict:
    """(module, attribute) -> plain value or identity of every attribute of every module."""
    return {
        (id(module), name): fixed(value)
        for module in model.modules()
        for name, value in vars(module).items()
        if name not in ("_parameters", "_buffers", "_modules") and not name.startswith("_forward")
    }


def fixed(value):
    """Something that compares equal exactly if the value did not change, without keeping it."""
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, list | tuple | set | dict) and len(value) < MOST_ITEMS:
        items = value.items() if isinstance(value, dict) else value
        return (id(value), len(value), str([item if isinstance(item, PLAIN) else id(item) for item in items]))
    return id(value)

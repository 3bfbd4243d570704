"""Branch exploration: the code that decides MoE calls, which way it went, and what was never seen.

The functions that lead to a MoE layer are watched while the scenarios run. Of
each branch point in them that can change MoE calls every outcome must have
been taken, at every point of the pass where it is decided; or its condition
reads only constants of this instance; else it stays unexplored, and inputs are
derived from it to reach the other side.
"""

import ast
import time
from contextlib import nullcontext

from moe_probe_worker import reach
from moe_probe_worker.branches import branches
from moe_probe_worker.constants import Constants
from moe_probe_worker.owners import Calls, Owners
from moe_probe_worker.sources import below_path
from moe_probe_worker.tracing import Trace

ROUNDS = 3
"""How often all scenarios run again because code was reached that was not known before."""
QUICK = 64
"""Tokens of a pass that takes little time."""
REACHING_S = 45.0
"""Seconds for inputs derived from conditions, for one model."""


class Explorer:
    """Watches the scenarios of one model and derives further ones.

    Args:
        passes: runs scenarios.
        model: the built model.
        recorder: its MoE calls.
        layers: how many layers the full config has; the model may have fewer.

    Attributes:
        entries: name -> report entry of every scenario that ran.
    """

    def __init__(self, passes, model, recorder, layers: int) -> None:
        owners = Owners(model, recorder.layers)
        self.passes, self.recorder, self.layers = passes, recorder, layers
        self.trace = Trace(model, owners)
        self.calls = Calls(owners, self.trace)
        self.constants = Constants(self.calls, self.trace)
        self.entries: dict = {}
        self.found: list = []
        self.seconds = 0.0
        self.tried: dict = {}

    def run(self, planned: list) -> None:
        """Run the scenarios until no new code appears, then try to reach what was missed."""
        begin = time.monotonic()
        for scenario in learning(planned) if self.recorder.layers else planned:
            self._pass(scenario)
        if not self.recorder.layers:
            return
        for _ in range(ROUNDS):
            self._watch()
            known = self._extent()
            for scenario in planned:
                self._pass(scenario)
            if self._extent() == known:
                break
        self._reach(begin + REACHING_S)
        self.seconds = time.monotonic() - begin

    def _pass(self, scenario) -> None:
        """Run a scenario; what a pass did that earlier ones of the same name did not is kept."""
        self.recorder.on_call, self.recorder.around = self.trace.called, self.trace.watching
        try:
            entry = self.passes.run(scenario)
        finally:
            self.recorder.on_call, self.recorder.around = None, nullcontext
        known = self.entries.setdefault(scenario.name, entry)
        if known is not entry and known["status"] == entry["status"] == "ran":
            known["passes"] += [order for order in entry["passes"] if order not in known["passes"]]
        elif known["status"] != "failed" and entry["status"] == "failed":
            self.entries[scenario.name] = entry

    def _extent(self) -> tuple:
        return len(self.trace.functions), sum(map(len, self.trace.sites.values())), len(self.trace.edges)

    def _watch(self) -> None:
        """Find the branches of all code known so far."""
        self.calls = Calls(self.trace.owners, self.trace)
        self.constants = Constants(self.calls, self.trace)
        known = {(branch.function.code, id(branch.node), branch.kind) for branch in self.found}
        for code in list(self.trace.edges):
            function = self.trace.functions[code]
            self.trace.mutable |= set_attributes(function)
            new = branches(function, self.calls)
            self.found += [one for one in new if (code, id(one.node), one.kind) not in known]
        for branch in self.found:
            branch.guard = Guard(branch, self.constants) if branch.kind == "if" else None
        self.trace.watch(self.found)

    def _reach(self, until: float) -> None:
        for branch in self.found:
            if self._assessed(branch)["status"] != "unexplored":
                continue
            for scenario in reach.derived(branch, self.trace, self.calls, self.passes):
                if time.monotonic() > until or self._assessed(branch)["status"] != "unexplored":
                    break
                self.tried.setdefault(branch, []).append(scenario.name)
                self._try(scenario)

    def _try(self, scenario) -> None:
        if scenario.name in self.entries:
            return
        self._pass(scenario)
        entry = self.entries[scenario.name]
        if entry["status"] == "failed":  # no launch can be harmed by an input that the model refuses
            self.entries[scenario.name] = entry | {"status": "not_applicable", "detail": f"refused: {entry['detail']}"}

    def report(self) -> dict:
        """The `exploration` part of the report."""
        seen = [self._assessed(branch) for branch in self.found]
        trouble = list(self.trace.trouble.values())
        deeper = [one.pop("deeper") for one in seen]
        return {
            "status": "failed" if trouble else "ran",
            "detail": "; ".join(trouble[:3]),
            "functions": len(self.trace.edges),
            "seconds": round(self.seconds, 3),
            "layers_wanted": min(max([0, *deeper]), self.layers),
            "branches": [one for one in seen if one["status"]],
        }

    def _assessed(self, branch) -> dict:
        status, because = self._status(branch)
        deeper = self._deeper(branch) if status == "constant" else 0
        if deeper:
            status, because = "unexplored", f"compares with layer {deeper - 2}; the probe built {self.built()} layers"
        if branch.kind == "select" and status == "constant":
            status = ""  # an ordinary call
        outcomes = sorted({one for taken in self.trace.outcomes.get(branch, {}).values() for one in taken})
        return {
            "file": below_path(branch.function.path),
            "line": getattr(branch.test or branch.node, "lineno", 0),
            "function": branch.function.name,
            "kind": branch.kind,
            "condition": branch.text,
            "outcomes": outcomes,
            "status": status,
            "because": because,
            "tried": self.tried.get(branch, []),
            "deeper": deeper,
        }

    def _status(self, branch) -> tuple:
        """Status and reason; an empty status for code that no pass came to."""
        why = (
            self.constants.why_not(branch.test, branch.function, selecting=branch.kind == "select")
            if (branch.test is not None)
            else ""
        )
        taken = self.trace.outcomes.get(branch, {})
        if branch.kind == "select":
            return ("unexplored", f"picks the layer by {why}, known only at run time") if why else ("constant", "")
        if branch.test is not None and not why:
            return "constant", "reads only what was fixed when the model was built"
        if not taken:
            return "", ""
        if branch.kind == "loop":
            return "unexplored", f"is bounded by {why}, known only at run time"
        return self._conditional(branch, taken, why)

    def _conditional(self, branch, taken: dict, why: str) -> tuple:
        missing = {
            outcome
            for progress, outcomes in taken.items()
            if (branch, progress) not in self.trace.forced
            for outcome in branch.wanted
            if outcome not in outcomes
        }
        if branch.kind == "try":
            missing = set(branch.wanted) - {one for outcomes in taken.values() for one in outcomes}
        if not missing:
            return "seen", ""
        reads = f"; it reads {why}" if why else ""
        return "unexplored", f"was never {' or '.join(sorted(missing))} in some place{reads}"

    def built(self) -> int:
        """How many layers the model that was built has."""
        return self.passes.vllm_config.model_config.hf_text_config.num_hidden_layers

    def _deeper(self, branch) -> int:
        """How many layers it takes to see both sides of a constant that names a layer; 0 if these do."""
        if branch.kind == "select" or not any(word in branch.text for word in ("layer", "idx", "index")):
            return 0
        numbers = (
            [node.value for node in ast.walk(branch.test) if isinstance(node, ast.Constant)] if branch.test else []
        )
        beyond = [one + 2 for one in numbers if type(one) is int and self.built() <= one < self.layers]
        return max(beyond, default=0)


class Guard:
    """Evaluates the constant parts of a condition in the frame that is about to test it."""

    def __init__(self, branch, constants: Constants) -> None:
        self.branch, self.constants = branch, constants
        self._codes: dict = {}

    def __call__(self, frame):
        """True or False where constants alone decide the condition, else None."""
        return self._forced(self.branch.test, frame)

    def _forced(self, node, frame):
        if isinstance(node, ast.BoolOp):
            parts = [self._forced(value, frame) for value in node.values]
            decisive = isinstance(node.op, ast.Or)
            if decisive in parts:
                return decisive
            return None if None in parts else not decisive
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            inner = self._forced(node.operand, frame)
            return None if inner is None else not inner
        if id(node) not in self._codes:
            constant = not self.constants.why_not(node, self.branch.function)
            self._codes[id(node)] = compile(ast.Expression(node), "<condition>", "eval") if constant else None
        code = self._codes[id(node)]
        try:
            return None if code is None else bool(eval(code, frame.f_globals, dict(frame.f_locals)))  # noqa: S307
        except Exception:
            return None


def learning(planned: list) -> list:
    """A few quick scenarios that reach most of a model's code: the first of each kind of name."""
    kinds = {}
    for scenario in (one for one in planned if len(one.ids) <= QUICK):
        kinds.setdefault((scenario.name.split("_")[0], scenario.feed), scenario)
    return list(kinds.values())


def set_attributes(function) -> set:
    """Attributes that a function sets, on anything."""
    stored = [node for node in function.nodes(ast.Attribute) if isinstance(node.ctx, ast.Store)]
    items = [node.value for node in function.nodes(ast.Subscript) if isinstance(node.ctx, ast.Store)]
    return {node.attr for node in [*stored, *items] if isinstance(node, ast.Attribute)}

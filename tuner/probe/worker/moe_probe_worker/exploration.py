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
from moe_probe_worker.functions import changed_in_place
from moe_probe_worker.guard import Guard
from moe_probe_worker.owners import Calls, Owners
from moe_probe_worker.scenarios import learning
from moe_probe_worker.sources import below_path
from moe_probe_worker.tracing import UNTOLD, Trace

ROUNDS = 4
"""How often all scenarios run at most, again whenever code was reached that was not known before."""
REACHING_S = 45.0
"""Seconds for inputs derived from conditions, for one model."""


class Explorer:
    """Watches the scenarios of one model and derives further ones.

    Args:
        passes: runs scenarios.
        model: the built model.
        recorder: its MoE calls.

    Attributes:
        entries: name -> report entry of every scenario that ran.
    """

    def __init__(self, passes, model, recorder) -> None:
        owners = Owners(model, recorder.layers)
        self.passes, self.recorder = passes, recorder
        self.trace = Trace(model, owners)
        self.calls = Calls(owners, self.trace)
        self.constants = Constants(self.calls, self.trace)
        self.entries: dict = {}
        self.scenarios: list = []
        self.found: list = []
        self.seconds = 0.0
        self.tried: dict = {}

    def run(self, planned: list, reaching: float = REACHING_S) -> None:
        """Run the scenarios until no new code appears, then try to reach what was missed.

        Args:
            planned: the scenarios.
            reaching: seconds for inputs derived from conditions; 0 for none.
        """
        begin = time.monotonic()
        self.scenarios = list(planned)
        for scenario in learning(planned) if self.recorder.layers else planned:
            self._pass(scenario)
        if self.recorder.layers:
            self._explore(begin + reaching)
        self.seconds = time.monotonic() - begin

    def _explore(self, until: float) -> None:
        for _ in range(ROUNDS):
            self._watch()
            known = self._extent()
            for scenario in self.scenarios:
                self._pass(scenario)
            if self._extent() == known:
                self._reach(until)
                if self._extent() == known:
                    return
        self.trace.trouble["rounds"] = f"new code still appeared when all scenarios had run {ROUNDS} times"

    def _pass(self, scenario) -> None:
        """Run a scenario; what a pass did that earlier ones of the same name did not is kept."""
        self.recorder.on_call, self.recorder.around = self.trace.called, self.trace.watching
        try:
            entry = self.passes.run(scenario)
        finally:
            self.recorder.on_call, self.recorder.around = None, nullcontext
        if entry["status"] == "failed" and scenario.optional:
            entry |= {"status": "not_applicable", "detail": f"refused: {entry['detail']}"}
        known = self.entries.setdefault(scenario.name, entry)
        if known is not entry and known["status"] == entry["status"] == "ran":
            known["passes"] += [order for order in entry["passes"] if order not in known["passes"]]
            known["contexts"] += entry["contexts"]
        elif known["status"] != "failed" and entry["status"] == "failed":
            self.entries[scenario.name] = entry

    def _extent(self) -> tuple:
        trace = self.trace
        return len(trace.functions), sum(map(len, trace.sites.values())), len(trace.edges), len(trace.mutable)

    def _watch(self) -> None:
        """Find the branches of all code known so far."""
        self.calls = Calls(self.trace.owners, self.trace)
        self.constants = Constants(self.calls, self.trace)
        known = {(branch.function.code, id(branch.node), branch.kind) for branch in self.found}
        for code in list(self.trace.edges):
            new = branches(self.trace.functions[code], self.calls)
            self.found += [one for one in new if (code, id(one.node), one.kind) not in known]
        # Functions that were only read count too: the arm that calls them may not have been taken yet.
        self.trace.mutable |= set().union(*map(set_attributes, self.trace.functions.values()))
        self.trace.forced.clear()
        for branch in self.found:
            branch.guard = Guard(branch, self.constants) if branch.is_jump else None
        self.trace.watch(self.found)

    def _reach(self, until: float) -> None:
        for branch in self.found:
            if time.monotonic() > until or self._assessed(branch)["status"] != "unexplored":
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
        self.scenarios.append(scenario)

    def report(self) -> dict:
        """The `exploration` part of the report."""
        seen = [self._assessed(branch) for branch in self.found]
        trouble = list(self.trace.trouble.values())
        return {
            "status": "failed" if trouble else "ran",
            "detail": "; ".join(trouble[:3]),
            "functions": len(self.trace.edges),
            "seconds": round(self.seconds, 3),
            "branches": [one for one in seen if one["status"]],
        }

    def _assessed(self, branch) -> dict:
        status, because = self._status(branch)
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
        if not taken and branch not in self.trace.reached:
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
        if any(UNTOLD in outcomes for outcomes in taken.values()):
            return "unexplored", "went a way that could not be told"
        if not branch.is_jump:
            missing = set(branch.wanted) - {one for outcomes in taken.values() for one in outcomes}
        if not missing:
            return "seen", ""
        reads = f"; it reads {why}" if why else ""
        return "unexplored", f"was never {' or '.join(sorted(missing))} in some place{reads}"


def set_attributes(function) -> set:
    """Attributes that a function sets or changes in place, on anything."""
    stored = [node for node in function.nodes(ast.Attribute) if not isinstance(node.ctx, ast.Load)]
    changed = [one for node in function.nodes(ast.Subscript, ast.Call) for one in changed_in_place(node)]
    return {node.attr for node in (*stored, *changed) if isinstance(node, ast.Attribute)}

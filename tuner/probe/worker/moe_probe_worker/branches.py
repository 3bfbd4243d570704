"""The branch points of a function that can change whether, which or in what order MoE layers run."""

import ast

from moe_probe_worker.functions import Function, changed_in_place, names, span

CHOICES = (ast.If, ast.While, ast.IfExp, ast.BoolOp, ast.For, ast.AsyncFor, ast.Try, ast.Match, ast.ListComp)
CHOICES += (ast.GeneratorExp, ast.SetComp, ast.DictComp)
LEAVING = (ast.Return, ast.Break, ast.Continue)
LONGEST_TEXT = 160
"""Characters of a condition in the report."""


class Branch:
    """One branch point.

    Attributes:
        function: where it stands.
        kind: `if`, `loop`, `try` or `select`, as in the report.
        node: its syntax node.
        test: what decides: a condition, what a loop runs over, the expression that selects; None for `try`.
        arms: outcome -> the nodes that run then; an empty list for an arm that is not written.
        machinery: offsets of instructions of the expression around the test, such as its jump: they tell nothing yet.
        guard: given the frame, what the constant parts of the condition decide alone: True, False or None.
    """

    def __init__(self, function: Function, kind: str, node, test, arms: dict) -> None:
        self.function, self.kind, self.node, self.test, self.arms = function, kind, node, test, arms
        self.guard = None
        self.machinery: set = set()
        self._places: dict | None = None
        self._after: set = set()

    def places(self) -> dict:
        """Outcome -> offsets of the instructions of its arm."""
        if self._places is None:
            offsets = self.function.offsets
            self._places = {outcome: offsets(*arm, jumps=True) if arm else set() for outcome, arm in self.arms.items()}
            following = self.function.next_statement(self.node)
            self._after = offsets(following) if following is not None else set()
            if self.test is not None:
                self.machinery = self.function.around(self.test)
        return self._places

    def outcome(self, at) -> str:
        """Which way a condition went, told by the instruction after it; `at` is None where the function ended.

        Compilers turn `if …: continue` into one conditional jump, an arm without
        an instruction: then whatever does not go on with the next statement took it.
        """
        places = self.places()
        taken = next((outcome for outcome, offsets in places.items() if at in offsets), "")
        if taken:
            return taken
        unwritten = [outcome for outcome, arm in self.arms.items() if not arm]
        threaded = [outcome for outcome, arm in self.arms.items() if arm and not places[outcome]]
        if threaded and not (unwritten and at in self._after):
            return threaded[0]
        return unwritten[0] if unwritten else ""

    @property
    def is_jump(self) -> bool:
        """Whether the instruction after the test tells the outcome; else entering an arm does."""
        return self.kind == "if" and not isinstance(self.node, ast.Match)

    @property
    def wanted(self) -> list:
        """The outcomes to be seen: all but those that end in an exception and call nothing before."""
        return [outcome for outcome, arm in self.arms.items() if not raises(arm)]

    @property
    def text(self) -> str:
        """The condition as it is written, in one line."""
        shown = self.test if self.test is not None else self.node
        said = " ".join(ast.unparse(shown).split()) if self.test is not None else "try"
        return said if len(said) <= LONGEST_TEXT else f"{said[: LONGEST_TEXT - 3]}..."


def branches(function: Function, calls) -> list:
    """The branch points of the function that matter, in the order of the text."""
    reaching = calls.reaching(function)
    if not reaching:
        return []
    steering = steering_names(function, reaching)
    found = [branch for node in function.nodes(*CHOICES) for branch in as_branches(function, node)]
    matter = [branch for branch in found if matters(branch, reaching, steering)]
    return [*matter, *(Branch(function, "select", call, call.func, {}) for call in reaching)]


def as_branches(function: Function, node) -> list:
    """A syntax node as branch points."""
    if isinstance(node, ast.If | ast.While | ast.IfExp):
        arms = {"true": listed(node.body), "false": listed(node.orelse)}
        return [Branch(function, "if", node, node.test, arms)]
    if isinstance(node, ast.BoolOp):
        rest = node.values[1:]
        decides, other = ("true", "false") if isinstance(node.op, ast.And) else ("false", "true")
        return [Branch(function, "if", node, node.values[0], {decides: rest, other: []})]
    if isinstance(node, ast.For | ast.AsyncFor):
        return [Branch(function, "loop", node, node.iter, {"entered": node.body})]
    if isinstance(node, ast.Try):
        handlers = {f"handler {at + 1}": handler.body for at, handler in enumerate(node.handlers)}
        return [Branch(function, "try", node, None, {"completed": node.body, **handlers})]
    if isinstance(node, ast.Match):
        arms = {f"case {at + 1}": case.body for at, case in enumerate(node.cases)}
        fallback = {} if is_wildcard(node.cases[-1]) else {"no case": []}
        return [Branch(function, "if", node, node.subject, {**arms, **fallback})]
    return [Branch(function, "loop", node, part.iter, {"entered": [node]}) for part in node.generators]


def is_wildcard(case) -> bool:
    """Whether a case of `match` takes everything."""
    return isinstance(case.pattern, ast.MatchAs) and case.pattern.pattern is None and case.guard is None


def listed(body) -> list:
    """A body as a list of nodes."""
    return body if isinstance(body, list) else [body]


def raises(arm: list) -> bool:
    """Whether an arm ends the pass with an exception."""
    return bool(arm) and isinstance(arm[-1], ast.Raise)


def steering_names(function: Function, reaching: list) -> set:
    """Names whose value decides what a MoE-reaching call calls, followed through assignments."""
    loops = [node for node in function.nodes(ast.For, ast.AsyncFor) if contains([node], reaching)]
    found = {name for call in reaching for name in read(call.func)} | {
        name for loop in loops for name in read(loop.iter)
    }
    found -= set(function.parameters[:1])
    while True:
        more = {other for name in found for value, _ in function.stores(name) if value for other in read(value)}
        if more <= found:
            return found
        found |= more


def read(node) -> set:
    """The names an expression reads; what it passes to calls left out."""
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}


def contains(nodes: list, wanted: list) -> bool:
    """Whether one of the wanted nodes stands inside these."""
    ids = {id(one) for node in nodes for one in ast.walk(node)}
    return any(id(one) in ids for one in wanted)


def matters(branch: Branch, reaching: list, steering: set) -> bool:
    """Whether the outcome of this branch can change the MoE calls of its function."""
    arms = [arm for arm in branch.arms.values() if not raises(arm) or contains(arm, reaching)]
    if isinstance(branch.node, ast.Try) and len(branch.wanted) <= 1:
        return False
    if any(contains(arm, reaching) for arm in arms):
        return not same_calls(branch, reaching)
    if any(leaves(arm) for arm in arms) and reached_after(branch, reaching):
        return True
    changes = any(stores_in(arm, steering) or changed_in(arm) & steering for arm in arms)
    return changes or chooses(branch, reaching, steering)


def same_calls(branch: Branch, reaching: list) -> bool:
    """Whether both arms make the same MoE-reaching calls and leave alike, with no branch inside."""
    if branch.kind != "if" or isinstance(branch.node, ast.While | ast.BoolOp) or len(branch.arms) <= 1:
        return False
    ids = {id(call) for call in reaching}
    said = []
    for arm in branch.arms.values():
        inner = [one for node in arm for one in ast.walk(node)]
        if any(isinstance(one, (*CHOICES, ast.Break, ast.Continue)) for one in inner):
            return False
        said.append([ast.unparse(one.func) for one in inner if id(one) in ids] + [leaves(arm)])
    return all(one == said[0] for one in said)


def leaves(arm: list) -> bool:
    """Whether an arm leaves its function, or its loop, early."""
    return any(isinstance(one, LEAVING) for node in arm for one in ast.walk(node))


def reached_after(branch: Branch, reaching: list) -> bool:
    """Whether a MoE-reaching call can follow the branch: later in the text, or in a loop around it."""
    loops = [node for node in branch.function.above(branch.node) if isinstance(node, ast.For | ast.While)]
    if loops and contains(loops, reaching):
        return True
    return any(span(call)[0] > span(branch.node)[1] for call in reaching)


def stores_in(arm: list, steering: set) -> bool:
    """Whether an arm gives one of these names a value."""
    targets = [one for node in arm for one in ast.walk(node)]
    found = [target for one in targets for target in getattr(one, "targets", [getattr(one, "target", None)])]
    return any(names(target) & steering for target in found if target is not None)


def changed_in(arm: list) -> set:
    """Names of collections that an arm changes in place, or hands to a function that could."""
    inner = [one for node in arm for one in ast.walk(node)]
    changed = [one for node in inner for one in changed_in_place(node)]
    calls = [one for one in inner if isinstance(one, ast.Call) and isinstance(one.func, ast.Name)]
    given = [item for one in calls for item in one.args]
    return {one.id for one in (*changed, *given) if isinstance(one, ast.Name)}


def chooses(branch: Branch, reaching: list, steering: set) -> bool:
    """Whether a conditional expression is part of what decides which layer is called."""
    if not isinstance(branch.node, ast.IfExp | ast.BoolOp):
        return False
    if contains(reaching, [branch.node]):
        return True
    for node in branch.function.above(branch.node):
        if isinstance(node, ast.For) and contains([node.iter], [branch.node]):
            return contains([node], reaching)
        if isinstance(node, ast.stmt | ast.NamedExpr):
            return stores_in([node], steering)
    return False

"""What the constant parts of a condition decide alone.

In `index == 10 and is_rare(hidden)` nothing rare can happen in any layer but
one: where the first part is false, the other outcome need not be seen.
"""

import ast


class Guard:
    """Evaluates the constant parts of a condition in the frame that is about to test it.

    They are parts of the model's own code, which that frame runs next anyway.

    Args:
        branch: the branch point.
        constants: tells which parts are constant.
    """

    def __init__(self, branch, constants) -> None:
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

"""Places in Python source that start vLLM: calls of its classes, and command lines for another process.

The source is parsed and never run. Where it cannot be parsed, the lines are searched.
"""

import ast
import re
import warnings
from collections.abc import Iterator

from tuner.manifests.mentions.in_shell import form_of_words, shell_mentions, written_mentions
from tuner.manifests.mentions.mention import MENTION, Lines, Mention

_CLASSES = frozenset({"LLM", "AsyncLLM", "LLMEngine", "AsyncLLMEngine", "AsyncEngineArgs", "EngineArgs"})
_RAY = re.compile(r"\bray\.(?:serve|data)\.llm\b")
_IMPORT = re.compile(r"^[ \t]*(?:from|import)[ \t]+vllm\b", re.MULTILINE)
_CALL = re.compile(r"^[^#\n\"']*\b(LLM|AsyncEngineArgs|EngineArgs)\(", re.MULTILINE)
_SPEAKING = re.compile(r"print|log|debug|info|warning|warn|error|exception|critical|fail|skip|add_argument|\w*Error")
"""Names of calls that show their text."""
_RUNNING = re.compile(
    r"run\w*|system|Popen|popen|call|check_call|check_output|getoutput|getstatusoutput|spawn\w*|exec\w*|start\w*"
    r"|launch\w*|create_subprocess_\w+|sendline|send_keys|submit|write\w*"
)
"""Names of calls that run a text, or write a script."""
_COMMAND = re.compile(r"cmd|command|launch|serve|script|exec|start|sbatch|job", re.IGNORECASE)
"""In names of variables, parameters and functions that hold or make a command line."""
_SAME_TEXT = frozenset({"join", "format", "dedent", "strip", "split", "quote", "append", "extend"})
"""Names of calls whose text is that of their argument."""
_TEXT_KEYWORDS = frozenset({"help", "description", "epilog", "usage", "prog", "msg", "message", "reason"})
_MAX_PARSED = 2**19
"""Characters of source that are parsed; longer source is searched."""


def python_mentions(text: str) -> Iterator[Mention]:
    """The places in Python source."""
    if not MENTION.search(text):
        return
    tree = _parsed(text)
    imported, served_by_ray = bool(_IMPORT.search(text)), bool(_RAY.search(text))
    if tree is None:
        yield from _searched(text) if imported else ()
        yield from written_mentions(text)
        return
    pending = [(tree, False)]
    while pending:
        node, runs = pending.pop()
        form = _form(node, imported=imported, served_by_ray=served_by_ray)
        if runs and isinstance(node, ast.Constant | ast.JoinedStr):
            form = _of_string(node)
        if form:
            line, last = getattr(node, "lineno", 1), getattr(node, "end_lineno", 1)
            yield Mention(line, form, line, last)
        else:
            pending += ((part, _runs(node, part, runs=runs)) for part in _parts(node))


def _parsed(text: str) -> ast.AST | None:
    if len(text) > _MAX_PARSED:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on escapes in somebody else's strings
        try:
            return ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


def _searched(text: str) -> Iterator[Mention]:
    """The calls in source that is not parsed, line by line."""
    lines = Lines(text)
    for match in _CALL.finditer(text):
        line = lines.at(match.start(1))
        yield Mention(line, _call_form(match[1]), line, line)


def _parts(node: ast.AST) -> list[ast.AST]:
    """What stands in a node, without what is only shown to people."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):  # a docstring
        return []
    if isinstance(node, ast.Call) and _SPEAKING.fullmatch(_called(node)):
        return [part for part in node.args if isinstance(part, ast.Call)]
    if isinstance(node, ast.keyword) and node.arg in _TEXT_KEYWORDS:
        return []
    return list(ast.iter_child_nodes(node))


def _runs(node: ast.AST, part: ast.AST, *, runs: bool) -> bool:
    """Whether a string in a part of a node is a command line that is run, by the name that it is given or given to.

    Args:
        node: the node.
        part: what stands in it.
        runs: whether the node itself is such a part.
    """
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return any(_COMMAND.search(ast.unparse(target)) for target in targets)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return isinstance(part, ast.stmt) and bool(_COMMAND.search(node.name))
    if isinstance(node, ast.keyword):
        return runs or bool(_COMMAND.search(node.arg or ""))
    if isinstance(node, ast.Call):
        name = _called(node)
        return bool(_RUNNING.fullmatch(name)) or (runs and name in _SAME_TEXT)
    return runs


def _form(node: ast.AST, *, imported: bool, served_by_ray: bool) -> str:
    """What starts vLLM in this node itself; empty if nothing does."""
    if isinstance(node, ast.Call) and imported:
        return _of_call(node)
    if isinstance(node, ast.keyword | ast.Dict) and served_by_ray:
        return "`engine_kwargs` of Ray" if _has_engine_kwargs(node) else ""
    if isinstance(node, ast.List | ast.Tuple):
        return form_of_words([_word(item) for item in node.elts])
    return ""


def _of_string(node: ast.Constant | ast.JoinedStr) -> str:
    """What starts vLLM in a string that is a command line."""
    text = _word(node)
    if " " not in text:
        return ""
    return next((place.form for place in shell_mentions(text) if not place.weak), "")


def _of_call(node: ast.Call) -> str:
    name = _called(node)
    if name in _CLASSES:
        return _call_form(name)
    owner = node.func.value if isinstance(node.func, ast.Attribute) else None
    if name.startswith("from_") and isinstance(owner, ast.Name) and owner.id in _CLASSES:
        return f"a Python call of {owner.id}.{name}("
    return ""


def _call_form(name: str) -> str:
    return f"a Python call of {name}("


def _called(node: ast.Call) -> str:
    """The last part of the name that is called."""
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else ""


def _has_engine_kwargs(node: ast.keyword | ast.Dict) -> bool:
    if isinstance(node, ast.keyword):
        return node.arg == "engine_kwargs"
    return any(isinstance(key, ast.Constant) and key.value == "engine_kwargs" for key in node.keys)


def _word(node: ast.AST) -> str:
    """The text of a string; what is put into one stands as a shell's variable."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(_word(part) or "$X" for part in node.values)
    return "$X"

"""Where one more variable of a container would be written in YAML or JSON, in the manner of what stands there. Pure."""

import re
from collections.abc import Sequence as Words

from tuner.manifests.launch import Argument, VariablePlace
from tuner.manifests.yaml.source import Mapping, Node, Scalar, Sequence, items_of, text_of

_ITEM = re.compile(r"[ \t]*-[ \t]+")
_BLOCK_STYLES = {"|", ">"}
_PROGRAM = re.compile(r"(?:.*/)?(?:vllm|python[\d.]*)")
"""A program that starts vLLM without another one between them."""
_SHELL = re.compile(r"(?:/bin/|/usr/bin/)?(?:ba|da)?sh -c")
"""A shell that reads no file before its script."""
_ONLY_COMMAND = re.compile(
    r"\s*(?:set\s+-[a-z]+(?:\s+pipefail)?\s*[\n;]\s*)*(?:exec\s+)?"
    r"(?:vllm\s+serve|python3?\s+-m\s+vllm\.entrypoints\.openai\.api_server)\s+(?:\\\n\s*)*[\"']?"
)
"""What stands in front of the arguments of a script's first command, if that is vLLM's."""


def variable_place(text: str, container: Mapping, words: Words[Argument]) -> VariablePlace | None:
    """The place behind the container's variables; with none, that of a new list `env`.

    Args:
        text: the file.
        container: one of a pod.
        words: the arguments of its launch.

    Returns:
        None where something between the container and vLLM may set variables, where others may use the same text, by
        an anchor or a merge key, and where `env` is not such a list. A container without an image is a patch of
        another one, which may set any variable.
    """
    is_patch = container.get("image") is None
    if is_patch or text[container.start] in "&!" or not _reaches_vllm(text, container, words):
        return None
    env = container.get("env")
    if env is None:
        return _of_new_list(text, container)
    if not isinstance(env, Sequence) or not _is_within(env, container):
        return None
    if text.startswith("[", env.start):
        return _in_brackets(text, env)
    return _behind_items(text, env) if text.startswith("-", env.start) else None


def _reaches_vllm(text: str, container: Mapping, words: Words[Argument]) -> bool:
    """Whether vLLM surely gets the container's variables as they are: a wrapper or a script may set its own."""
    items = [*items_of(container.get("command")), *items_of(container.get("args"))]
    texts = [text_of(item) or "" for item in items]
    script = next(iter(items[2:]), None)
    if script is not None and _SHELL.fullmatch(" ".join(texts[:2])):
        return bool(words) and _begins_script(text, script, words[0].start)
    front = texts[: len(texts) - len(words)]
    behind = [word for word in front[1:] if not word.startswith("-")]
    return not front or (bool(_PROGRAM.fullmatch(front[0])) and (len(behind) == 1 or behind[1:] == ["serve"]))


def _begins_script(text: str, script: Node, first: int) -> bool:
    """Whether the command whose arguments begin at an offset is the first one of a block text."""
    begin = text.find("\n", script.start, script.stop) + 1
    return bool(begin) and bool(_ONLY_COMMAND.fullmatch(text, begin, first))


def _in_brackets(text: str, env: Sequence) -> VariablePlace | None:
    if not env.items:
        return _item_in_braces(env.start + 1, "", quoted=env.json)
    last = env.items[-1]
    if not _is_within(last, env) or not text.startswith("{", last.start):
        return None
    return _like(text, last, last.stop, ", ")


def _behind_items(text: str, env: Sequence) -> VariablePlace | None:
    """A line behind the last item of a list with one item a line."""
    last = env.items[-1]
    prefix, end = _line_before(text, last.start), _end(text, last)
    if end is None or not _ITEM.fullmatch(prefix) or not _is_within(last, env):
        return None
    at = _line_end(text, end)
    lead = f"{_line_break(text, at)}{prefix}"
    if text.startswith("{", last.start):
        return _like(text, last, at, lead)
    return VariablePlace(at, f"{lead}name: ", f"{_line_break(text, at)}{_blank(prefix)}value: ", "", _quote_of(last))


def _of_new_list(text: str, container: Mapping) -> VariablePlace | None:
    """Behind the container's image, or else its name; written as its argument list is."""
    scalars = [container.get("image"), container.get("name")]
    before = next((node for node in scalars if isinstance(node, Scalar) and _is_on_lines(node, container)), None)
    lists = [container.get("args"), container.get("command")]
    like = next((node for node in lists if isinstance(node, Sequence) and _is_within(node, container)), None)
    if before is None or like is None or not like.items:
        return None
    if text.startswith("{", container.start):
        key = '"env"' if like.json else "env"
        return _item_in_braces(before.stop, f", {key}: [", "]", quoted=like.json)
    at = _line_end(text, before.stop)
    key_line = f"{_line_break(text, at)}{_blank(_line_before(text, container.start))}env:"
    if like.flow:
        return _item_in_braces(at, f"{key_line} [", "]")
    prefix = _line_before(text, like.items[0].start)
    if not _ITEM.fullmatch(prefix):
        return None
    lead, column = f"{key_line}{_line_break(text, at)}{prefix}", _blank(prefix)
    return VariablePlace(at, f"{lead}name: ", f"{_line_break(text, at)}{column}value: ", "")


def _like(text: str, item: Node, at: int, lead: str) -> VariablePlace:
    """An item in braces, with quotes and blanks as in another one."""
    inside = text[item.start + 1 : item.stop]
    gap = " " if inside.startswith(" ") else ""
    place = _item_in_braces(at, lead, quoted=inside.lstrip().startswith('"'), gap=gap)
    return place if place.quote else VariablePlace(at, place.before, place.between, place.behind, _quote_of(item))


def _item_in_braces(at: int, lead: str, behind: str = "", *, quoted: bool = False, gap: str = "") -> VariablePlace:
    """An item in braces.

    Args:
        at: where it goes.
        lead: what stands in front of it.
        behind: what stands behind it.
        quoted: its keys and texts stand in double quotes, as in JSON.
        gap: what stands behind the opening and in front of the closing brace.
    """
    if quoted:
        return VariablePlace(at, f'{lead}{{{gap}"name": "', '", "value": ', f"{gap}}}{behind}", '"')
    return VariablePlace(at, f"{lead}{{{gap}name: ", ", value: ", f"{gap}}}{behind}")


def _quote_of(item: Node) -> str:
    """What the value of a variable is quoted with; empty if with nothing, or if it has none."""
    value = item.get("value") if isinstance(item, Mapping) else None
    style = value.style if isinstance(value, Scalar) else ""
    return "" if style in _BLOCK_STYLES else style


def _is_within(inner: Node, outer: Node) -> bool:
    """Whether a node is written inside another one, and not only named there."""
    return outer.start <= inner.start and inner.stop <= outer.stop


def _is_on_lines(node: Scalar, container: Mapping) -> bool:
    return node.stop > node.start and node.style not in _BLOCK_STYLES and _is_within(node, container)


def _end(text: str, node: Node) -> int | None:
    """The offset behind the last character of a node, comments behind it left out; None where that is not certain."""
    if isinstance(node, Scalar):
        return _end_of_scalar(text, node)
    if text.startswith(("{", "["), node.start):
        return node.stop
    children = items_of(node) if isinstance(node, Sequence) else [value for _, value in node.pairs]
    ends = [_end(text, child) if _is_within(child, node) else None for child in children]
    certain = [end for end in ends if end is not None]
    return max(certain) if certain and len(certain) == len(ends) else None


def _end_of_scalar(text: str, node: Scalar) -> int | None:
    """The same of a text; a block text has line breaks behind it, and the place of an empty one is not certain."""
    written = text[node.start : node.stop]
    if node.style in _BLOCK_STYLES:
        written = written.rstrip()
    return node.start + len(written) if written else None


def _line_before(text: str, offset: int) -> str:
    """What stands on the same line before an offset."""
    return text[text.rfind("\n", 0, offset) + 1 : offset]


def _line_end(text: str, offset: int) -> int:
    """The offset of the end of a line, in front of its line break."""
    end = text.find("\n", offset)
    if end < 0:
        return len(text)
    return end - 1 if text[end - 1] == "\r" else end


def _line_break(text: str, at: int) -> str:
    """The line break of the line that ends there."""
    return "\r\n" if text.startswith("\r\n", at) else "\n"


def _blank(text: str) -> str:
    """Blanks of the same width."""
    return " " * len(text)

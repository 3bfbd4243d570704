"""Places that start vLLM and of which no launch came: nothing is silently not read.

Every file is looked at in the way of its kind, and a place counts where something is started: not in a comment, in
prose, in a message, or where vLLM is installed, imported or pulled alone.
"""

import json
import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePath

from tuner.manifests.docker import INSTRUCTION
from tuner.manifests.files import MARKDOWN_SUFFIXES, SHELL_SUFFIXES, WINDOWS_SUFFIXES, YAML_SUFFIXES, is_dockerfile
from tuner.manifests.image import parse_image
from tuner.manifests.launch import ManifestLaunch, UnreadLaunch
from tuner.manifests.markdown import SHELL_LANGUAGES, YAML_LANGUAGES, excerpt_of, fences, language_of
from tuner.manifests.mentions.in_python import python_mentions
from tuner.manifests.mentions.in_shell import UNIT_LINE, form_of_words, shell_mentions, written_mentions
from tuner.manifests.mentions.in_yaml import yaml_mentions
from tuner.manifests.mentions.mention import MENTION, Lines, Mention
from tuner.manifests.unit_text import without_taken_back

Look = Callable[[str], Iterator[Mention]]

_RENDER = "render it and check the result: `helm template . | tuner check -`"
_TEMPLATE = re.compile(
    r"\{\{-?\s*(?:\.Values|\.Release|\.Chart|include|template|if|with|range|end|toYaml|tpl|define|\$)"
)
_STARTS = re.compile(
    r"vllm\s+serve\b|vllm[\"']?\s*,\s*[\"']?serve|-\s+[\"']?vllm[\"']?\s+-\s+[\"']?serve|vllm\.entrypoints|dynamo\.vllm"
    r"|vllm-openai|compilation[-_]config|engine:\s*[\"']?vllm\b|vllm_config",
    re.IGNORECASE,
)
_COMMENT = re.compile(r"^[ \t]*(?:#|//|\{\{-?\s*/\*).*$", re.MULTILINE)
_DIRECTIVE = re.compile(r"^([ \t]*)\.\. (?:code-block|code|sourcecode|prompt)::[ \t]*([\w+-]*).*$")
_QUOTATION = re.compile(r"^[ \t]*>[ \t]?", re.MULTILINE)
_SECTION = re.compile(r"^[ \t]*\[[^\]\n]+\][ \t]*$", re.MULTILINE)
_SCRIPT = re.compile(r"[\w./$-]+\.sh\b")
_CONTINUED = re.compile(r"[\^`](?=\r?\n)")
"""What continues a line in a script of Windows: `^` for cmd.exe, a backquote for PowerShell."""
_REMARK = re.compile(r"^[ \t]*@?(?:rem\b|::).*$", re.MULTILINE | re.IGNORECASE)


def unread_launches(name: str, text: str, launches: Sequence[ManifestLaunch]) -> list[UnreadLaunch]:
    """The places in a file that start vLLM and of which none of these launches came, in the order of lines.

    Args:
        name: the file's name, which decides how it is looked at.
        text: its content.
        launches: those that were read in it.
    """
    if not MENTION.search(text):
        return []
    template = _template(name, text)
    if template is not None:
        return [template] if template.line else []
    lines = sorted({line for launch in launches for line in _lines_of(launch)})
    places = [mention for mention in _mentions(name, text) if not _is_covered(mention, lines)]
    strong = [mention for mention in places if not mention.weak]
    counted = strong if strong or launches else places[:1]
    unread = {(mention.line, mention.form) for mention in counted}
    return [UnreadLaunch(line, form) for line, form in sorted(unread)]


def reason_with_advice(name: str, text: str, reason: str) -> str:
    """Why a file cannot be read, and what to do where it is a template of Helm."""
    is_template = PurePath(name).suffix in YAML_SUFFIXES and _TEMPLATE.search(text)
    return f"{reason}. It is a template of Helm; {_RENDER}" if is_template else reason


def _template(name: str, text: str) -> UnreadLaunch | None:
    """A file that a template engine fills in first; its line is 0 where it starts no vLLM. None: no template."""
    suffix = PurePath(name).suffix
    form = f"a template of Helm; {_RENDER}"
    if suffix == ".j2":
        form = "a Jinja template; render it, and check the result"
    elif suffix not in YAML_SUFFIXES | {".tpl"} or not _TEMPLATE.search(text):
        return None
    bare = _COMMENT.sub("", text)
    match = _STARTS.search(bare)
    return UnreadLaunch(bare.count("\n", 0, match.start()) + 1 if match else 0, form)


def _lines_of(launch: ManifestLaunch) -> Iterator[int]:
    """The lines of a launch: of its first word to its last, and of its image."""
    yield launch.image_line
    own = [launch.line, *(word.line for word in launch.words)]
    yield from own
    if launch.words and launch.words[-1].line >= launch.line:
        yield from range(launch.line, launch.words[-1].line + 1)


def _is_covered(mention: Mention, lines: Sequence[int]) -> bool:
    """Whether a line of a launch lies in the block of a mention."""
    at = bisect_left(lines, mention.first)
    return at < len(lines) and lines[at] <= mention.last


def _mentions(name: str, text: str) -> Iterator[Mention]:
    suffix = PurePath(name).suffix
    if suffix in YAML_SUFFIXES or suffix == ".json":
        yield from _of_yaml(text)
    elif suffix in MARKDOWN_SUFFIXES:
        yield from _of_markdown(text)
    elif is_dockerfile(name):
        yield from _of_dockerfile(text)
    else:
        yield from _BY_SUFFIX.get(suffix, _of_text)(text)


def _of_yaml(text: str) -> Iterator[Mention]:
    try:
        yield from list(yaml_mentions(text))
    except ValueError:  # the check says so of the whole file
        return


def _of_markdown(text: str) -> Iterator[Mention]:
    """The places in fenced blocks, by their language, also in quotations; one without a language may be commands."""
    unquoted = _QUOTATION.sub("", text)
    for block in fences(unquoted):
        code = excerpt_of(unquoted, block).text
        look = _BY_LANGUAGE.get(language_of(block, code))
        if look is not None and MENTION.search(code):
            yield from (mention.moved(block.line - 1) for mention in look(code))


def _of_rst(text: str) -> Iterator[Mention]:
    """The places in the blocks of `code-block` directives: the lines that are indented more than the directive."""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        directive = _DIRECTIVE.match(line)
        if directive is None:
            continue
        depth, end = len(directive[1]), number + 1
        while end < len(lines) and (not lines[end].strip() or len(lines[end]) - len(lines[end].lstrip()) > depth):
            end += 1
        block = "\n".join(lines[number + 1 : end])
        look = _BY_LANGUAGE.get(directive[2].lower())
        if look is not None:
            yield from (mention.moved(number + 1) for mention in look(block))


def _of_notebook(text: str) -> Iterator[Mention]:
    """The places in code cells; each has the line of the file on which its cell begins."""
    try:
        cells = json.loads(text).get("cells", [])
    except (ValueError, RecursionError, AttributeError):
        return
    written, position = Lines(text), 0
    for cell in cells if isinstance(cells, list) else []:
        lines = _source_of(cell)
        if lines:
            position = max(position, text.find(json.dumps(lines[0], ensure_ascii=False)[1:-1], position))
            line = written.at(position)
            for mention in _of_cell("".join(lines)):
                yield Mention(line, mention.form, line, line, mention.weak)


def _source_of(cell: object) -> list[str]:
    """The lines of a code cell; none of another cell."""
    if not isinstance(cell, dict) or cell.get("cell_type") != "code":
        return []
    source = cell.get("source")
    lines = [source] if isinstance(source, str) else source
    return lines if isinstance(lines, list) and all(isinstance(line, str) for line in lines) else []


def _of_cell(source: str) -> Iterator[Mention]:
    """The places in one cell: Python, or commands behind `!` and in cells of a shell."""
    if source.lstrip().startswith(("%%bash", "%%sh", "%%script")):
        yield from shell_mentions(source)
        return
    lines = source.split("\n")
    commands = [line.lstrip()[1:] for line in lines if line.lstrip().startswith("!")]
    yield from shell_mentions("\n".join(commands))
    code = [line for line in lines if not line.lstrip().startswith(("!", "%"))]
    yield from python_mentions("\n".join(code))


def _of_unit(text: str) -> Iterator[Mention]:
    """The places in a unit of systemd: what it executes, and the image of a Quadlet."""
    text = without_taken_back(text)
    lines = text.split("\n")
    goes_on = False
    for number, line in enumerate(lines):
        is_command = goes_on or bool(UNIT_LINE.match(line))
        goes_on = is_command and line.endswith("\\")
        lines[number] = UNIT_LINE.sub("", line) if is_command else ""
    yield from shell_mentions("\n".join(lines))
    for mention in written_mentions(text):
        yield Mention(mention.line, mention.form, 1, len(lines))


def _of_config(text: str) -> Iterator[Mention]:
    """The places in a drop-in for a unit, or in another file of sections; without sections it is a script."""
    yield from _of_unit(text) if _SECTION.search(text) else shell_mentions(text)


def _of_windows(text: str) -> Iterator[Mention]:
    """The places in a script of Windows."""
    return shell_mentions(_CONTINUED.sub(r"\\", _REMARK.sub("", text)))


def _of_text(text: str) -> Iterator[Mention]:
    """The places in text of which only lists, images and commands are known, such as Terraform's."""
    yield from shell_mentions(text)
    yield from written_mentions(_COMMENT.sub("", text))


def _of_dockerfile(text: str) -> Iterator[Mention]:
    """The places in a Dockerfile: its commands, lists in JSON, a script in an image that serves, and such an image."""
    yield from shell_mentions(text)
    image, image_line, lines = "", 0, Lines(text)
    is_bare = False
    for match in INSTRUCTION.finditer(text):
        instruction, value = match[1].upper(), match[2]
        if instruction not in {"FROM", "CMD", "ENTRYPOINT"}:
            continue
        line = lines.at(match.start(1))
        if instruction == "FROM":
            image = next((word for word in value.split() if not word.startswith("--")), "")
            image_line, is_bare = line, parse_image(image).serves
            continue
        is_bare = False
        last = line + value.count("\n")
        if form := form_of_words(re.findall(r"\"([^\"\n]*)\"", value)):
            yield Mention(line, form, line, last)
        elif parse_image(image).serves and _SCRIPT.search(value):
            yield Mention(line, f"a script in the image {image}", line, last)
    if is_bare:
        form = f"the image {image}, whose own command serves; its arguments are given where it is run"
        yield Mention(image_line, form, image_line, image_line)


_BY_SUFFIX: dict[str, Look] = {
    **dict.fromkeys(("", *SHELL_SUFFIXES), shell_mentions),
    ".py": python_mentions,
    ".ipynb": _of_notebook,
    ".rst": _of_rst,
    ".service": _of_unit,
    ".container": _of_unit,
    ".conf": _of_config,
    **dict.fromkeys(WINDOWS_SUFFIXES, _of_windows),
    ".tf": _of_text,
    ".hcl": _of_text,
    ".toml": _of_text,
}
_BY_LANGUAGE: dict[str, Look] = {
    **dict.fromkeys(SHELL_LANGUAGES, shell_mentions),
    **dict.fromkeys(("fish", "make", "makefile", "just"), shell_mentions),
    **dict.fromkeys((*YAML_LANGUAGES, "json"), _of_yaml),
    **dict.fromkeys(("python", "py", "python3"), python_mentions),
    **dict.fromkeys(("dockerfile", "docker"), _of_dockerfile),
    **dict.fromkeys(("ini", "systemd"), _of_unit),
    **dict.fromkeys(("hcl", "terraform", "toml"), _of_text),
    **dict.fromkeys(("bat", "batch", "cmd", "dos", "powershell", "pwsh", "ps1"), _of_windows),
}

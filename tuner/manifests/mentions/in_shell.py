"""Places in shell text that start vLLM in any form: behind a wrapper, in an array, in a string, in a here-document.

This looks at words and quotes alone. It need not know the arguments, and so it sees more than the reader of launches.
A word in a message, in a comment or in a pattern for `pkill` starts nothing.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import dropwhile, pairwise

from tuner.manifests.image import parse_image, seems_to_serve
from tuner.manifests.markdown import SHELL_LANGUAGES, excerpt_of, fences
from tuner.manifests.mentions.mention import CONFIG_OPTION, MENTION, Lines, Mention
from tuner.manifests.shell.programs import NO_LAUNCH

_PART = re.compile(
    r"(?P<comment>(?:(?<=[\s;&|()])|\A)(?:\#|//)[^\n]*)"
    r"|(?P<space>\\\r?\n|[ \t\r]+)"
    r"|(?P<herestring><<<)"
    r"|(?P<heredoc><<[-~]?[ \t]*[\"']?(?P<mark>[A-Za-z_]\w*)[\"']?)"
    r"|(?P<target>(?:[\d&]|\{\w+\})?>>?(?![&(])[ \t]*[^\s;&|()]*)"
    r"|(?P<end>[\n;&|()`])"
    r"|(?P<quote>'[^']*'|\"(?:[^\"\\]|\\.)*\")"
    r"|(?P<plain>(?:[^\s;&|()`'\"\\<>]|\\[^\n])+|.)",
    re.DOTALL,
)
_ASSIGNMENT = re.compile(r"(?:export\s+)?(\w+)(?:\[[^\]]*\])?\+?:?=")
_KEYWORDS = frozenset(
    {"then", "do", "else", "elif", "if", "while", "until", "!", "{", "}", "time", "exec", "export", "local", "declare"}
    | {"readonly", "sudo", "env", "nohup", "$", "%", "-", "RUN", "CMD", "ENTRYPOINT"}
)
"""Words before a command: keywords of bash, prompts, and a Dockerfile's instructions."""
_SPEAKERS = re.compile(
    r"echo|printf|cat|log\w*|info|warn\w*|error|err|fatal|die|debug|print\w*|say|msg|fail|success|usage|e?grep|rg|pgrep"
    r"|pkill|killall|kill|ps|which|type|man|sed|awk|pip3?|git|curl|wget|cd|cp|mv|rm|ls|find|test|\[|\[\[|read|wait\w*"
    r"|assert\w*|apt|apt-get|dnf|yum|npm|brew|trap|hash|help|comment|description|title|name"
)
"""Commands and functions that show, search or install what they are given."""
_EXECUTORS = re.compile(
    r"(?:a|ba|z|da|k|fi|c|tc)?sh|ssh|pdsh|tmux|screen|eval|su|docker|podman|nerdctl|kubectl|oc|srun|mpirun|nohup|env|timeout"
    r"|xargs|parallel|systemd-run|apptainer|singularity|enroot|sbatch|exec|script|ray|sky|accelerate|torchrun|gcloud"
    r"|az|aws|modal|flux|ExecStart|start\w*|run\w*|launch\w*|serve\w*|spawn\w*"
)
"""Commands that run a string which they are given; functions with such a name as well."""
_SHELL = re.compile(r"(?:.*/)?(?:a|ba|da|z|k)?sh|ssh|at|batch")
"""Programs that run the text on their standard input."""
_ALIAS = "alias"
_CONTAINERS = frozenset({"docker", "podman", "nerdctl", "apptainer", "singularity", "enroot"})
_PYTHON = re.compile(r"python[\d.]*")
_IN_PYTHON = re.compile(r"\b(?:LLM|AsyncEngineArgs|EngineArgs)\(|vllm\.entrypoints\S* import \S*main\b")
"""What starts vLLM in a program that stands behind `python -c`."""
_CLOUDS = frozenset(
    {"kubectl", "oc", "gcloud", "az", "aws", "hf", "huggingface-cli", "runpodctl", "vastai", "fly", "flyctl"}
)
"""Commands that start a container elsewhere."""
_STARTING = frozenset({"run", "create", "deploy"})
_NO_VALUE = re.compile(r"-[ditP]+|--(?:rm|detach|interactive|tty|init|privileged|read-only|nv)|--?[\w-]+=.*", re.DOTALL)
"""Options of `docker run` behind which no value stands."""
UNIT_LINE = re.compile(r"^(?:(?:Exec\w*|Environment)=[-@:+!]*|command[ \t]*=[ \t]*)", re.MULTILINE)
"""What stands in front of a command in a unit of systemd, and in a program of supervisord."""
_NO_COMMAND = re.compile(r".*(?:PATTERN|MSG|MESSAGE|HELP|USAGE|DESC\w*|TITLE|NAME|LABEL|REGEX|LOG|TEXT)", re.IGNORECASE)
"""Variables that hold words for people or for a search."""
_VLLM = re.compile(r"(?:.*/)?vllm|\$\(?\{?\w*vllm\w*\}?\)?", re.IGNORECASE)
_MODULE = re.compile(r"(?:vllm\.entrypoints|dynamo\.vllm)(?:\.\w+)*")
_SERVER_FILE = re.compile(r"(?:.*/)?vllm/entrypoints/\S+\.py")
_ARGUMENTS = re.compile(r"\$\{?\w*(?:\[[@*]\]|ARGS|CMD|OPTS|FLAGS|COMMAND)\w*\}?|\$[@*]", re.IGNORECASE)
"""A variable that holds arguments, the word `serve` among them."""
_PLAIN_WORD = re.compile(r"[A-Za-z][a-z']*[,.:;!?]?")
_SCRIPT = re.compile(
    r"[^&]*>>?[ \t]*\S*(?:\.sh|\.bash|\.service|\.ya?ml|\.py|[Dd]ockerfile|\.sbatch|\.slurm|[\w}]+)\"?"
)
_STREAM = re.compile(r"(?:2|&)?>>?[ \t]*(?:/dev/\S*|\S*\.(?:log|txt|out|err|md)|&\d|)\"?")
_LIST = re.compile(
    r"[\"']vllm[\"']\s*,\s*[\"']serve[\"']|[\"']-m[\"']\s*,\s*[\"'](?:vllm\.entrypoints|dynamo\.vllm)[\w.]*[\"']"
    r"|^[ \t]*-[ \t]+[\"']?vllm[\"']?[ \t]*\n[ \t]*-[ \t]+[\"']?serve\b"
    r"|^[ \t]*-[ \t]+-m[ \t]*\n[ \t]*-[ \t]+(?:vllm\.entrypoints|dynamo\.vllm)",
    re.MULTILINE,
)
_IMAGE = re.compile(r"^[ \t-]*[\"']?(?:\w*_)?[iI]mage(?:_\w+)?[\"']?[ \t]*[:=][ \t]*[\"']?([\w.:/@-]+)", re.MULTILINE)
_MAX_DEPTH = 3
"""Strings in strings that are looked into."""

SERVE = "`vllm serve`"
UNKNOWN_OPTIONS = "arguments of vLLM with a compilation config"


@dataclass
class _Word:
    """A word, in the parts that touch each other."""

    parts: list[str]
    line: int
    quoted: bool

    @cached_property
    def text(self) -> str:
        """Its text without its quotes."""
        return "".join(self.parts)


@dataclass
class _Command:
    """The words of one command, the files that its output goes to, and its here-documents with their first line."""

    words: list[_Word] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    documents: list[tuple[str, int]] = field(default_factory=list)
    is_piped: bool = False
    feeds_a_shell: bool = False

    @property
    def writes_a_script(self) -> bool:
        """Whether its output goes to a file that may be run, or to a shell."""
        if self.feeds_a_shell:
            return True
        files = [*self.targets, *(f">{word.text}" for word in self.words[1:] if self.words[0].text == "tee")]
        return any(_SCRIPT.fullmatch(target) and not _STREAM.fullmatch(target) for target in files)


def shell_mentions(text: str) -> Iterator[Mention]:
    """The places in shell text, or in text that holds commands, such as a Makefile."""
    return _mentions(text, 0)


def fenced_mentions(text: str) -> Iterator[Mention]:
    """The places in the shell blocks of Markdown."""
    for block in fences(text):
        if block.language in SHELL_LANGUAGES:
            code = excerpt_of(text, block).text
            yield from (mention.moved(block.line - 1) for mention in shell_mentions(code))


def written_mentions(text: str) -> Iterator[Mention]:
    """Lists `"vllm", "serve"` and images that serve, in text that nothing here reads, such as Terraform's."""
    lines = Lines(text)
    for match in _LIST.finditer(text):
        line = lines.at(match.start())
        yield Mention(line, SERVE if "serve" in match[0] else "vLLM's server module", line, line)
    for match in _IMAGE.finditer(text):
        if parse_image(match[1]).serves:
            line = lines.at(match.start(1))
            yield Mention(line, f"the image {match[1]}", line, line)


def form_of_words(texts: Sequence[str]) -> str:
    """What starts vLLM in an argument vector, wherever it stands in it; empty if nothing does."""
    forms = (_form_at(texts, index) for index in range(len(texts)))
    return next(filter(None, forms), "")


def _mentions(text: str, depth: int) -> Iterator[Mention]:
    if MENTION.search(text):
        commands = _Reader(text).commands()
        for command, behind in pairwise(commands):
            command.feeds_a_shell = command.is_piped and any(_SHELL.fullmatch(word.text) for word in behind.words)
        for command in commands:
            yield from _of_command(command, depth)


class _Reader:
    """Splits a text into commands."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.lines = Lines(text)
        self.list = [_Command()]
        self.waiting: list[tuple[_Command, str]] = []
        """Here-documents of this line, whose text begins behind it."""
        self.last_stop = -1
        self.in_array = False

    def commands(self) -> list[_Command]:
        """All commands that have words, in order."""
        position = 0
        while match := _PART.match(self.text, position):
            position = match.end()
            if match["end"]:
                position = self._end(match["end"], match.start(), position)
            elif match["mark"]:
                self.waiting.append((self.list[-1], match["mark"]))
            elif match["target"]:
                self.list[-1].targets.append(match["target"])
            elif match["quote"] or match["plain"]:
                self._add(match[0], match.start(), quoted=bool(match["quote"]))
        return [command for command in self.list if command.words]

    def _add(self, part: str, start: int, *, quoted: bool) -> None:
        """Add a part to the word that it touches, or begin a word with it."""
        text = part[1:-1] if quoted else part
        words = self.list[-1].words
        if words and start == self.last_stop:
            words[-1].parts.append(text)
            words[-1].quoted = words[-1].quoted or quoted
        else:
            words.append(_Word([text], self.lines.at(start), quoted))
        self.last_stop = start + len(part)

    def _end(self, mark: str, start: int, position: int) -> int:
        """End the command, unless the mark belongs to an array; the position at which reading goes on."""
        words = self.list[-1].words
        if mark == "(" and words and start == self.last_stop and words[-1].parts[-1].endswith("="):
            self.in_array = True
            return position
        if self.in_array and mark != ")":
            return position
        self.in_array = False
        self.list[-1].is_piped = mark == "|"
        self.list.append(_Command())
        return self._documents(position) if mark == "\n" else position

    def _documents(self, position: int) -> int:
        """Give the here-documents of the line before to their commands; the position behind them."""
        for command, mark in self.waiting:
            first = self.lines.at(position)
            ends = self.marks.get(mark, [])
            at = bisect_left(ends, first)
            if at < len(ends):
                stop = self.lines.starts[ends[at] - 1]
                command.documents.append((self.text[position:stop], first))
                position = self.lines.starts[ends[at]]
        self.waiting = []
        return min(position, len(self.text))

    @cached_property
    def marks(self) -> dict[str, list[int]]:
        """The lines that hold one word alone, by this word: they may end a here-document."""
        lines: dict[str, list[int]] = {}
        for number, line in enumerate(self.text.split("\n"), 1):
            lines.setdefault(line.strip(), []).append(number)
        return lines


def _of_command(command: _Command, depth: int) -> Iterator[Mention]:
    words = list(dropwhile(_is_before_command, command.words))
    program = _name(words[0].text) if words else ""
    shows = bool(_SPEAKERS.fullmatch(program)) and not command.writes_a_script
    if not shows:
        yield from _of_words(command, words, program, depth)
    if _PYTHON.fullmatch(program):
        yield from _of_programs(command)
    elif not shows or command.is_piped:
        yield from _of_documents(command, depth)


def _of_words(command: _Command, words: Sequence[_Word], program: str, depth: int) -> Iterator[Mention]:
    """The places in the words of a command that runs something; each belongs to the whole command."""
    first, last = command.words[0].line, command.words[-1].line
    for form, line in _forms(words, program):
        yield Mention(line, form, first, last)
    if any(CONFIG_OPTION.match(word.text) for word in command.words):
        yield Mention(first, UNKNOWN_OPTIONS, first, last, weak=True)
    for word in command.words if depth < _MAX_DEPTH else ():
        if (word.quoted or program == _ALIAS) and MENTION.search(word.text):
            for mention in _of_string(word, program, depth):
                yield mention.within(first, last)


def _of_programs(command: _Command) -> Iterator[Mention]:
    """The programs that a Python runs, behind `-c` and in here-documents."""
    texts = [(word.text, word.line) for word in command.words if word.quoted] + command.documents
    for text, line in texts:
        if _IN_PYTHON.search(text):
            first, last = command.words[0].line, max(line, command.words[-1].line)
            yield Mention(line, "a Python program", first, last)


def _of_documents(command: _Command, depth: int) -> Iterator[Mention]:
    """The places in here-documents."""
    for document, line in command.documents if depth < _MAX_DEPTH else ():
        commands = UNIT_LINE.sub("", document)
        for mention in (*_mentions(commands, depth + 1), *written_mentions(document)):
            yield mention.moved(line - 1)


def _is_before_command(word: _Word) -> bool:
    """Whether a word stands before a command: a keyword, a prompt, or an assignment."""
    text = word.text.lstrip("@-+") or "-"
    return text in _KEYWORDS or bool(_ASSIGNMENT.match(text))


def _forms(words: Sequence[_Word], program: str) -> Iterator[tuple[str, int]]:
    """What starts vLLM in the words of a command, with its line: once at most."""
    texts = [word.text for word in words]
    for index, word in enumerate(words):
        form = _form_at(texts, index)
        if form:
            if not _is_prose(texts, index) and not NO_LAUNCH.intersection(texts[index:]):
                yield form, word.line
            return
    if program in _CONTAINERS:
        yield from _of_container(words)
    elif program in _CLOUDS and _STARTING.intersection(texts) and not {"--command", *NO_LAUNCH}.intersection(texts):
        yield from _of_image(words)


def _of_container(words: Sequence[_Word]) -> Iterator[tuple[str, int]]:
    """An image that serves, in `docker run`."""
    texts = [word.text for word in words]
    if not {"run", "create"} & set(texts):
        return
    entrypoint = next((text for text in texts if text.startswith("--entrypoint")), "")
    for index, word in enumerate(words):
        if not entrypoint and (parse_image(word.text).serves or _seems_to_serve(texts, index)):
            if NO_LAUNCH.intersection(texts[index:]):
                return
            yield f"a container of the image {word.text}", word.line
            return


def _of_image(words: Sequence[_Word]) -> Iterator[tuple[str, int]]:
    """An image that serves, as a word or the value of an option."""
    for word in words:
        image = word.text.partition("=")[2] if word.text.startswith("-") else word.text
        if parse_image(image).serves:
            yield f"a container of the image {image}", word.line
            return


def _seems_to_serve(texts: Sequence[str], index: int) -> bool:
    """Whether the image at a word of `docker run` seems to start vLLM; a name of a container or a volume does not."""
    is_value = texts[index - 1].startswith("-") and not _NO_VALUE.fullmatch(texts[index - 1])
    is_option = texts[index].startswith("-") or ":/" in texts[index]
    return not is_value and not is_option and seems_to_serve(texts[index], texts[index + 1 :])


def _form_at(texts: Sequence[str], index: int) -> str:
    """What starts vLLM at this word; empty if nothing does."""
    text, behind = texts[index].lstrip("@-+"), texts[index + 1 : index + 3]
    if _VLLM.fullmatch(text) and behind[:1] == ["serve"] and behind[1:]:
        return SERVE
    if _serves_behind(text, behind):
        return SERVE
    if text == "vllm" and index == 0 and behind and _ARGUMENTS.fullmatch(behind[0]):
        return "`vllm` with arguments from a variable"
    if texts[index] == "-m" and behind and _MODULE.fullmatch(behind[0]):
        return f"`-m {behind[0]}`"
    if texts[index] == "-m" and behind == ["vllm", "serve"]:
        return SERVE
    return "vLLM's server module" if _SERVER_FILE.fullmatch(text) else ""


def _serves_behind(text: str, behind: Sequence[str]) -> bool:
    """Whether `nix run nixpkgs#vllm -- serve m` stands here, or `--command vllm --args "serve m"`."""
    if text.rpartition("#")[2] == "vllm" and behind == ["--", "serve"]:
        return True
    return text == "vllm" and any(word.startswith("serve ") for word in behind)


def _is_prose(texts: Sequence[str], index: int) -> bool:
    """Whether plain words follow, more than the model that vLLM takes: a sentence about vLLM."""
    behind = [text for text in texts[index + 1 : index + 5] if text != "--"][1:3]
    plain = [bool(_PLAIN_WORD.fullmatch(text)) for text in behind]
    return plain == [True, True] or (index > 0 and plain[:1] == [True])


def _of_string(word: _Word, program: str, depth: int) -> Iterator[Mention]:
    """The places in a quoted word: a script that the command runs, or a command line that a variable keeps."""
    name = _ASSIGNMENT.match(word.text)
    if name is not None and program == _ALIAS:
        yield from _of_alias(word, name[1], word.text[name.end() :], depth)
    elif name is not None:
        yield from _of_value(word, name[1], word.text[name.end() :], depth)
    elif _EXECUTORS.fullmatch(program) or _begins_with_launch(word.text):
        yield from _of_script(word, word.text, depth)


def _of_alias(word: _Word, name: str, value: str, depth: int) -> Iterator[Mention]:
    """The places in the command that another name stands for; `vllm` itself needs no note, for the name is read."""
    is_program = name != "vllm" and " " not in value and _VLLM.fullmatch(value) is not None
    mentions = [Mention(word.line, "`vllm`", word.line, word.line)] if is_program else []
    for mention in mentions or _of_value(word, name, value, depth):
        yield replace(mention, form=f"{mention.form} under the name {name}")


def _of_value(word: _Word, name: str, value: str, depth: int) -> Iterator[Mention]:
    """The places in the value of a variable, unless its name says that it is not a command."""
    if _NO_COMMAND.fullmatch(name):
        return
    last = word.line + word.text.count("\n")
    if CONFIG_OPTION.search(value):
        yield Mention(word.line, UNKNOWN_OPTIONS, word.line, last, weak=True)
    if value.strip() in {"vllm serve", "vllm"}:
        yield Mention(word.line, SERVE, word.line, last)
    yield from _of_script(word, value, depth)


def _of_script(word: _Word, script: str, depth: int) -> Iterator[Mention]:
    for mention in _mentions(script, depth + 1):
        yield mention.moved(word.line - 1)


def _begins_with_launch(content: str) -> bool:
    """Whether the text is a command line that starts vLLM, by its first words."""
    words = [word for word in content.split(None, 8)[:8] if not _ASSIGNMENT.match(word)]
    return bool(words) and any(_form_at(words, index) for index in range(min(2, len(words))))


def _name(text: str) -> str:
    """The name of a program without its folder, and without the marks of make."""
    return text.lstrip("@-+").rpartition("/")[2]

"""Which command starts vLLM, whatever runs it: the words `vllm serve`, or its server module, behind any wrapper."""

import re
from collections.abc import Sequence
from itertools import islice, takewhile

SERVER_MODULE = "vllm.entrypoints.openai.api_server"
DYNAMO_MODULE = "dynamo.vllm"
"""Dynamo's worker, which takes the arguments of vLLM's engine."""
CLI_MODULE = "vllm.entrypoints.cli.main"
ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_STARTERS = re.compile(
    r"\$|env|exec|eval|nohup|sudo|time|nice|ionice|stdbuf|setsid|command|numactl|taskset|timeout|chroot|catchsegv|uv|uvx"
    r"|poetry|conda|pixi|tini|dumb-init|srun|mpirun|nsys|ncu|systemd-run|ray|apptainer|singularity|kubectl|docker|podman"
    r"|nerdctl|tmux|screen|xargs|watch|RUN|CMD|ENTRYPOINT"
)
"""Programs whose words are a command, and a Dockerfile's instructions, in documents."""
_QUIET = frozenset(
    {
        "echo",
        "printf",
        "print",
        "cat",
        "tee",
        "less",
        "more",
        "head",
        "tail",
        "grep",
        "egrep",
        "fgrep",
        "rg",
        "ag",
        "sed",
        "awk",
        "gawk",
        "perl",
        "sort",
        "uniq",
    }
    | {
        "wc",
        "cut",
        "tr",
        "diff",
        "find",
        "ls",
        "ll",
        "stat",
        "file",
        "cd",
        "pushd",
        "mkdir",
        "rm",
        "cp",
        "mv",
        "ln",
        "touch",
        "chmod",
        "chown",
        "read",
        "log",
        "logger",
        "die",
        "fail",
        "warn",
        "error",
    }
    | {
        "pkill",
        "pgrep",
        "kill",
        "killall",
        "ps",
        "pidof",
        "top",
        "htop",
        "lsof",
        "fuser",
        "man",
        "help",
        "which",
        "whereis",
        "type",
        "hash",
        "apropos",
        "info",
    }
    | {
        "git",
        "gh",
        "hub",
        "pip",
        "pip3",
        "pipx",
        "apt",
        "apt-get",
        "yum",
        "dnf",
        "apk",
        "brew",
        "npm",
        "cargo",
        "curl",
        "wget",
        "alias",
        "unalias",
        "export",
        "declare",
        "local",
    }
    | {
        "readonly",
        "typeset",
        "set",
        "unset",
        "test",
        "[",
        "[[",
        "return",
        "exit",
        "source",
        ".",
        "complete",
        "compgen",
        "trap",
    }
)
"""Programs that print, edit, look for or install what their words name, and run none of it."""
_VLLM = re.compile(r"(?:.*/)?vllm|(?:\$\(|`)(?:which|command -v|type -[pP])\s+(?:\S*/)?vllm[)`]")
"""vLLM's command, or a substitution that asks where it is."""
_SERVER_FILE = re.compile(r"(?:.*/)?vllm/entrypoints/openai/api_server\.py")
_MODULE_FLAG = re.compile(r"-[bBdEiIOPqRsSuvx]*m")
"""`python -m`, other flags of one letter in front of the m."""
_SHELLS = re.compile(r"(?:.*/)?(?:a|ba|da|z|k)?sh")
_FLAGS_WITH_VALUE = frozenset({"--rcfile", "--init-file"})
_RUN_TEXTS = frozenset(
    {"tmux", "screen", "ssh", "pdsh", "parallel", "sbatch", "pm2"} | {"su", "runuser", "script", "watch", "xterm"}
)
"""Programs that give a word of theirs to a shell."""
_PYTHON = re.compile(r"(?:.*/)?(?:python(?:[\d.]+)?|\$\{?PYTHON\w*\}?)")
_PROGRAM = re.compile(r"[a-z0-9_./~$][\w./~$@{}\[\]+-]*")
NO_LAUNCH = frozenset({"--help", "-h", "--version"})
"""Options with which vLLM prints something and ends."""
ELLIPSIS = frozenset({"...", "…", "[...]", "<...>"})
"""Words of documents that stand for arguments."""


def behind_launch(texts: Sequence[str]) -> int | None:
    """Index of the first argument of vLLM's server in a command; None if the command does not start it.

    Args:
        texts: the words of the command; what is not known is as it is written.
    """
    if is_quiet(texts):
        return None
    for index in range(len(texts)):
        behind = _behind(texts, index)
        if behind is not None:
            return behind if _is_certain(texts, index, behind) else None
    return None


def is_quiet(texts: Sequence[str]) -> bool:
    """Whether a command prints, edits, installs or looks for its words."""
    for text in texts:
        name = text.rpartition("/")[2]
        if name in _QUIET:
            return True
        if not (_STARTERS.fullmatch(name) or ASSIGNMENT.fullmatch(text) or text.startswith("-")):
            return False
    return False


def is_prose(texts: Sequence[str]) -> bool:
    """Whether words behind `vllm serve` are a sentence: more than the one that vLLM takes stand before any option."""
    bare = takewhile(lambda text: not text.startswith(("-", "$")) and text not in ELLIPSIS, texts)
    return len(list(islice(bare, 2))) > 1


def script_index(texts: Sequence[str]) -> int | None:
    """Index of SCRIPT in `sh -c SCRIPT`, whatever stands before it; None if there is none.

    Options of the shell are read as bash reads them (its manual, 6.1): `-lc`, `-c -i`, `-o pipefail`, `--`.
    """
    if is_quiet(texts):
        return None
    for place, text in enumerate(texts):
        index = _behind_flags(texts, place + 1) if _SHELLS.fullmatch(text) else None
        if index is not None and index < len(texts):
            return index
    return None


def text_indexes(texts: Sequence[str]) -> list[int]:
    """Indexes of words that a program may give to a shell, as `tmux new-session 'vllm serve m'` does."""
    names = {text.rpartition("/")[2] for text in texts}
    if is_quiet(texts) or not names & _RUN_TEXTS:
        return []
    return [index for index, text in enumerate(texts) if "vllm" in text and " " in text]


def _behind_flags(texts: Sequence[str], index: int) -> int | None:
    """Index behind the options of a shell that takes a script; None if it takes none."""
    takes_script = False
    while index < len(texts) and texts[index][:1] in {"-", "+"}:
        text = texts[index]
        if text in {"-", "--"}:
            index += 1
            break
        if text.startswith("--"):
            index += 2 if text in _FLAGS_WITH_VALUE else 1
            continue
        takes_script = takes_script or (text.startswith("-") and "c" in text)
        index += 1 + text.count("o") + text.count("O")
    return index if takes_script else None


def _behind(texts: Sequence[str], index: int) -> int | None:
    """Index behind what starts the server, if it stands at `index`."""
    behind = list(texts[index + 1 : index + 3])
    if _VLLM.fullmatch(texts[index]):
        return index + 2 if behind[:1] == ["serve"] else None
    if _SERVER_FILE.fullmatch(texts[index]):
        return index + 1
    if not _MODULE_FLAG.fullmatch(texts[index]):
        return None
    if behind[:1] in ([SERVER_MODULE], [DYNAMO_MODULE]):
        return index + 2
    return index + 3 if behind in ([CLI_MODULE, "serve"], ["vllm", "serve"]) else None


def _is_certain(texts: Sequence[str], index: int, behind: int) -> bool:
    """Whether a command runs what it names, and is not a sentence.

    Behind a program that nobody knows here there must be an option, or a model with its organisation.
    """
    first = next((text for text in texts if not ASSIGNMENT.fullmatch(text)), "")
    if texts[index] == first:
        return True
    if is_prose(texts[behind:]):
        return False
    if _STARTERS.fullmatch(first.rpartition("/")[2]) or _PYTHON.fullmatch(first):
        return True
    model = texts[behind] if behind < len(texts) else ""
    stated = "/" in model or any(text.startswith(("-", "$")) for text in texts[behind:])
    return stated and bool(_PROGRAM.fullmatch(first))

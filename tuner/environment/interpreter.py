"""Finds from files where a Python looks for its packages; the Python itself is never started."""

import os
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from rules.errors import ErrorKind, TunerError
from tuner.untrusted.files import read_plain
from tuner.untrusted.json_text import MAX_BYTES

_PROGRAMS = (b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")  # Linux; macOS, one and several architectures
_LONG_SHEBANG = "'''exec' "  # what pip and uv write where a path is too long for a #! line, or has a space in it
_PYTHON_NAME = re.compile(r"python|pypy")
_EXACT_VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+")
_STARTS_VLLM = re.compile(
    r"""(?:exec\s+)?(?P<quote>["']?)(?P<program>/[\w./+@-]+)(?P=quote)"""
    r"""(?P<module>\s+-m\s+vllm(?:\.entrypoints\.cli\.main)?)?\s+"\$@\""""
)
"""The command of a wrapper: an absolute path without variables, and all arguments."""
_HEAD = 8192
"""Bytes of a script that hold its first two lines."""
_LIBRARIES = ("lib", "lib64")  # lib64: Fedora and its kin


class Interpreter(Struct, frozen=True):
    """A Python and its site folders.

    Attributes:
        python: absolute path with its symbolic links: the place of a link tells the virtual environment.
        version: as exact as the files tell, `3.11.7` or `3.11`.
        site: folders that exist, in search order, without the standard library.
    """

    python: str
    version: str
    site: tuple[str, ...]


def program(name: str) -> str | None:
    """The path of a program on PATH; None if there is none."""
    import shutil  # noqa: PLC0415  brings archive formats with it, and a look-up that is given a path does without

    return shutil.which(name)


def default_python() -> str:
    """The interpreter behind the `vllm` on PATH; without a `vllm` there the one that runs this.

    Raises:
        TunerError: the `vllm` is neither a Python script nor a wrapper that only starts one.
    """
    script = program("vllm")
    if script is None:
        return sys.executable
    python = script_python(Path(script)) or _wrapped_python(Path(script))
    if python is None:
        raise TunerError(
            f"The `vllm` on PATH, {script}, is not a Python script, and does more than start one.",
            hint="Name the Python of the vLLM that it starts: --python PATH, or the variable TUNER_PYTHON.",
            kind=ErrorKind.ENVIRONMENT,
        )
    return python


def _wrapped_python(script: Path) -> str | None:
    """The Python behind a shell script that only starts vLLM with its arguments; None for another script.

    A wrapper that sets variables is not followed: the server would start without them.
    """
    try:
        text = read_plain(script, _HEAD).decode(errors="replace")
    except OSError:
        return None
    lines = [line.strip() for line in text.splitlines()[1:]]
    commands = [line for line in lines if line and not line.startswith(("#", "set -"))]
    if len(commands) != 1 or not text.startswith("#!") or len(text) >= _HEAD:
        return None
    match = _STARTS_VLLM.fullmatch(commands[0])
    if match is None:
        return None
    target = Path(match["program"])
    return str(target) if match["module"] else script_python(target)


def script_python(script: Path) -> str | None:
    """The Python that runs a script, by the script's first two lines; None if it is not a Python script."""
    try:
        lines = read_plain(script, _HEAD).decode(errors="replace").split("\n")
    except OSError:
        return None
    first, second = lines[0], "".join(lines[1:2])
    if not first.startswith("#!"):
        return None
    python = _long_shebang(script, second.rstrip()) if second.startswith(_LONG_SHEBANG) else _shebang(first)
    return python if _PYTHON_NAME.match(Path(python).name) else None


def find_interpreter(python: str) -> Interpreter:
    """Find a Python's version and site folders.

    Search order: PYTHONPATH; the folder of a virtual environment; the user's folder and the system's folders, if there
    is no virtual environment or it includes them. Behind each folder come the folders that its `.pth` files list.

    Args:
        python: a path, or the name of a program on PATH.

    Raises:
        TunerError: it is not a Python, or has no site folder.
    """
    named = Path(python if os.sep in python else program(python) or python)
    path = (named.expanduser() if python.startswith("~") else named).absolute()
    _require_program(path)
    version, sites = _virtual(path) or _system(path.resolve())
    if not sites:
        raise _not_python(f"{path} has no folder of installed packages, so it is not a Python.")
    folders = [*_python_path(), *(folder for site in sites for folder in (site, *_listed(site)))]
    return Interpreter(str(path), version, tuple(dict.fromkeys(str(folder) for folder in folders)))


def entries(folder: str | Path) -> list[str]:
    """Names in a folder; none if it cannot be listed, as in Python's own search."""
    try:
        return os.listdir(folder)  # noqa: PTH208  as below
    except OSError:
        return []


def text(file: str | Path) -> str:
    """The first 16 Mi characters of a regular file; empty if it cannot be read.

    Not `read_plain`: a look-up reads hundreds of files, and Path objects take several times as long.
    """
    try:
        handle = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(handle, encoding="utf-8", errors="replace") as stream:  # noqa: PTH123  as above
            return stream.read(MAX_BYTES) if stat.S_ISREG(os.fstat(handle).st_mode) else ""
    except OSError:
        return ""


def _shebang(line: str) -> str:
    words = line.removeprefix("#!").split()
    if words and Path(words[0]).name == "env":
        return _behind_env(words[1:])
    return words[0] if words else ""


def _behind_env(words: list[str]) -> str:
    """The program that `env` starts: the first word that is neither an option nor a variable."""
    for word in words:
        if not word.startswith("-") and "=" not in word:
            return program(word) or word
    return ""


def _long_shebang(script: Path, line: str) -> str:
    """The path in `'''exec' PATH "$0" "$@"`; uv writes it relative to the script if the environment may move."""
    path = line.removeprefix(_LONG_SHEBANG).removesuffix(' "$0" "$@"')
    if path.startswith('"$('):
        return str(script.resolve().parent / path.rpartition("/")[2].strip("'\""))
    return path.strip("'\"")


def _require_program(path: Path) -> None:
    try:
        start = read_plain(path, 4)
    except OSError as error:
        raise _not_python(f"{path} cannot be read as a Python: {error.strerror}.") from error
    if start.startswith(b"#!"):
        behind = script_python(path)
        raise _not_python(f"{path} is a script, not a Python.", f"Its Python is {behind}." if behind else "")
    if start not in _PROGRAMS or not (_PYTHON_NAME.match(path.name) or _PYTHON_NAME.match(path.resolve().name)):
        raise _not_python(f"{path} is not a Python.")


def _not_python(message: str, hint: str = "") -> TunerError:
    default = "Name the interpreter itself: `python -c 'import sys; print(sys.executable)'` prints it."
    return TunerError(message, hint=hint or default, kind=ErrorKind.ENVIRONMENT)


def _virtual(path: Path) -> tuple[str, list[Path]] | None:
    """Version and site folders of a virtual environment; None if the path is not in one."""
    prefix = next((folder for folder in path.parents[:2] if (folder / "pyvenv.cfg").is_file()), None)
    if prefix is None:
        return None
    config = {}
    for line in text(prefix / "pyvenv.cfg").splitlines():
        key, _, value = line.partition("=")
        config[key.strip().lower()] = value.strip()
    minor, sites = _sites(prefix, None)
    if config.get("include-system-site-packages", "").lower() == "true":
        sites += _system(Path(config.get("home", "")) / f"python{minor}")[1]
    exact = _EXACT_VERSION.match(config.get("version") or config.get("version_info") or "")
    return (exact[0] if exact else minor), sites


def _system(path: Path) -> tuple[str, list[Path]]:
    """Version and site folders of a Python outside of virtual environments; `path` has no symbolic links."""
    named = re.match(r"python([0-9]+\.[0-9]+t?)", path.name)
    minor, sites = _sites(path.parent.parent, named[1] if named else None)
    return minor, [*_user_sites(minor), *sites]


def _sites(prefix: Path, minor: str | None) -> tuple[str, list[Path]]:
    """Minor version and site folders below a prefix, with Debian's `dist-packages`."""
    if minor is None:
        names = [folder.name for lib in _LIBRARIES for folder in prefix.glob(f"{lib}/python3.[0-9]*")]
        minor = max(names, key=_minor_number, default="python3").removeprefix("python")
    # In a virtual environment lib64 is a link to lib, not another folder.
    libraries = [lib for lib in _LIBRARIES if lib == "lib" or not (prefix / lib).is_symlink()]
    places = [f"{lib}/python{minor}/{kind}-packages" for lib in libraries for kind in ("site", "dist")]
    debian = (f"local/lib/python{minor}/dist-packages", "lib/python3/dist-packages")
    return minor, [prefix / place for place in (debian[0], *places, debian[1]) if (prefix / place).is_dir()]


def _minor_number(name: str) -> int:
    return int(re.findall(r"\d+", name)[1])


def _user_sites(minor: str) -> list[Path]:
    base = os.environ.get("PYTHONUSERBASE") or os.environ.get("HOME", "") + "/.local"
    site = Path(base) / f"lib/python{minor}/site-packages"
    return [site] if site.is_dir() and not os.environ.get("PYTHONNOUSERSITE") else []


def _python_path() -> list[Path]:
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    folders = [Path(entry).absolute() for entry in entries if entry]
    return [folder for folder in folders if folder.is_dir()]


def _listed(site: Path) -> Iterator[Path]:
    """Folders that the `.pth` files of a site folder add; `import` lines in these files are code, and do not run."""
    for name in sorted(file for file in entries(site) if file.endswith(".pth") and not file.startswith(".")):
        for line in text(site / name).splitlines():
            entry = line.strip()
            if entry.startswith(("#", "import ", "import\t")) or not entry:
                continue
            folder = Path(os.path.abspath(site / entry))  # noqa: PTH100  as Python's site: `..` goes, links stay
            if folder.is_dir():
                yield folder

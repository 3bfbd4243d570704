"""The general plugins of a serving environment, read from their files: each may replace any class that vLLM serves.

vLLM loads every entry point of the group `vllm.general_plugins` in each of its processes before it looks for a model's
class (vllm/plugins/__init__.py, load_general_plugins, the same in 0.16.0 to 0.32.0), unless VLLM_PLUGINS names others.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from tuner.environment.interpreter import entries, text
from tuner.untrusted.files import read_plain

GROUP = "vllm.general_plugins"
UNKNOWN = "unknown"
"""In place of the digest of a plugin whose files are missing or too many: it equals no other plugin."""
MAX_FILES = 5000
MAX_BYTES = 64 * 2**20
"""Limit for all files of a plugin together."""
_DIGITS = 32
"""Length of a digest as it is shown; enough to tell changes apart."""
_VLLM = "vllm"
"""vLLM's own package: its version and the files that run are other parts of the key."""


class _Point(Struct, frozen=True):
    """One entry point, and the metadata folder of the distribution that has it."""

    name: str
    module: str
    metadata: str


def general_plugins(metadata: Iterable[str], site: Sequence[str], allowed: str | None) -> tuple[str, ...]:
    """Each general plugin that vLLM would load, except its own: `ENTRY-POINT DISTRIBUTION VERSION DIGEST`, sorted.

    The digest covers the Python files in the distribution's RECORD, and the files of the modules that `top_level.txt`
    and the entry point name, wherever the search path has them. It is `UNKNOWN` if there are no files.

    Args:
        metadata: the `.dist-info` and `.egg-info` folders of the installed distributions.
        site: the folders of modules, in search order.
        allowed: value of `VLLM_PLUGINS`, names separated by commas; None: all.
    """
    plugins = []
    for point in _points(metadata):
        is_own = point.module.partition(".")[0] == _VLLM
        if not is_own and (allowed is None or point.name in allowed.split(",")):
            plugins.append(f"{point.name} {_stated(point.metadata)} {_digest(point, site)}")
    return tuple(sorted(plugins))


def unknown_plugins(plugins: Iterable[str]) -> list[str]:
    """Names of the plugins whose files are not known: no stored verdict surely holds together with one of them."""
    return [plugin.partition(" ")[0] for plugin in plugins if plugin.endswith(UNKNOWN)]


def entry_points(points: str, group: str) -> dict[str, str]:
    """The entry points of a group in the text of an `entry_points.txt`: name -> `module:object`."""
    section = re.search(rf"^\[\s*{re.escape(group)}\s*\]$(.*?)(?=^\[|\Z)", points, re.MULTILINE | re.DOTALL)
    if not section:
        return {}
    return dict(re.findall(r"^[ \t]*([^\s#=;][^=\n]*?)[ \t]*=[ \t]*([^\n]*?)[ \t]*$", section[1], re.MULTILINE))


def _points(metadata: Iterable[str]) -> Iterator[_Point]:
    for folder in metadata:
        written = text(f"{folder}/entry_points.txt")
        if GROUP in written:
            for name, value in entry_points(written, GROUP).items():
                yield _Point(name, re.split(r"[:\s\[]", value, maxsplit=1)[0], folder)


def _stated(metadata: str) -> str:
    """Name and version of a distribution, as its metadata states them."""
    headers = (text(f"{metadata}/METADATA") or text(f"{metadata}/PKG-INFO")).partition("\n\n")[0]
    stated = []
    for field in ("name", "version"):
        line = re.search(rf"^{field}:[ \t]*(\S+)", headers, re.IGNORECASE | re.MULTILINE)
        stated.append(line[1] if line else "")
    return f"{stated[0] or Path(metadata).stem} {stated[1] or 'without-version'}"


def _digest(point: _Point, site: Sequence[str]) -> str:
    """One digest over names and contents of a plugin's files; it does not depend on their place."""
    total, budget, count = hashlib.sha256(), MAX_BYTES, 0
    files = _files(point, site)
    for name in sorted(files):
        count += 1
        try:
            data = read_plain(files[name], budget + 1)
        except (OSError, ValueError):  # ValueError: a name with a NUL
            continue  # RECORD lists it, but it does not exist
        budget -= len(data)
        if budget < 0 or count > MAX_FILES:
            return UNKNOWN
        total.update(name.encode("utf-8", "surrogateescape") + b"\0" + data + b"\0")
    has_module = any(file.is_file() for file in files.values())
    return total.hexdigest()[:_DIGITS] if has_module else UNKNOWN


def _files(point: _Point, site: Sequence[str]) -> dict[str, Path]:
    """A plugin's Python files by their names below the folder that holds them."""
    root = Path(point.metadata).parent
    files = {name: root / name for name in _recorded(point.metadata)}
    editable = _editable(point.metadata)
    modules = {point.module.partition(".")[0], *text(f"{point.metadata}/top_level.txt").split()} - {"", _VLLM}
    for module in sorted(modules):
        places = [*site, str(root), *editable.folders]
        for place in [editable.modules[module]] if module in editable.modules else _module(module, places):
            files |= _below(place)
            if len(files) > MAX_FILES:
                return files
    return files


def _recorded(metadata: str) -> list[str]:
    """The Python files in a RECORD, without files outside of its folder, which cannot be imported."""
    import csv  # noqa: PLC0415  few environments have plugins, and a look-up in the others does without

    rows = csv.reader(text(f"{metadata}/RECORD").splitlines()[: 10 * MAX_FILES])
    names = [row[0] for row in rows if row and row[0].endswith(".py")]
    return [name for name in names if not name.startswith(("/", "..")) and "\0" not in name]


def _module(name: str, places: Iterable[str]) -> list[Path]:
    """Where Python finds a module: the first package or file of that name, else every folder of that name."""
    parts = []
    for place in dict.fromkeys(places):
        folder, file = Path(place, name), Path(place, f"{name}.py")
        if (folder / "__init__.py").is_file():
            return [folder]
        if file.is_file():
            return [file]
        if folder.is_dir():
            parts.append(folder)
    return parts


def _below(place: Path) -> dict[str, Path]:
    """The Python files of a module: a file, or a folder with all below it."""
    if place.is_file():
        return {place.name: place}
    files: dict[str, Path] = {}
    for folder, _, names in os.walk(place):
        for name in names:
            if name.endswith(".py"):
                file = Path(folder, name)
                files[str(file.relative_to(place.parent))] = file
        if len(files) > MAX_FILES:
            break
    return files


class _Editable(Struct, frozen=True):
    """The place of the sources of an editable installation.

    Attributes:
        folders: folders that may hold modules.
        modules: folder or file of each module in the map of an import hook of setuptools.
    """

    folders: tuple[str, ...]
    modules: dict[str, Path]


def _editable(metadata: str) -> _Editable:
    """The sources of an editable installation, by its `direct_url.json` and the map of setuptools' import hook."""
    url = text(f"{metadata}/direct_url.json")
    address = re.search(r'"url": *"file://([^"]+)"', url)
    if not address or not re.search(r'"editable": *true', url):
        return _Editable((), {})
    from urllib.parse import unquote  # noqa: PLC0415  slow to import, and few installations are editable

    root = unquote(address[1])
    return _Editable((root, f"{root}/src"), _mapped(Path(metadata)))


def _mapped(metadata: Path) -> dict[str, Path]:
    """The map in the `__editable___NAME_VERSION_finder.py` beside a distribution: its `MAPPING` is a plain dict."""
    import ast  # noqa: PLC0415  as above

    stem = re.sub(r"[-.]", "_", metadata.name.removesuffix(".dist-info"))
    for name in entries(metadata.parent):
        if name.startswith("__editable__") and name.endswith("_finder.py") and stem in name:
            mapping = re.search(r"^MAPPING\b[^=\n]*= *(\{[^\n]*\})", text(metadata.parent / name), re.MULTILINE)
            try:
                modules = ast.literal_eval(mapping[1]) if mapping else {}
            except (ValueError, SyntaxError, RecursionError):
                return {}
            return {str(module): _source(Path(str(place))) for module, place in modules.items()}
    return {}


def _source(place: Path) -> Path:
    """A mapped module: its folder, or its file, which the map names without the ending."""
    return place if place.is_dir() or place.suffix == ".py" else place.with_name(place.name + ".py")

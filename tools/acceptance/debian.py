"""Packages of Debian, fetched into a folder and unpacked there. Nothing is installed on the machine.

apt checks every file against the signed lists of the archive that the machine is set up for.
"""

import re
import subprocess
from pathlib import Path

SOURCES = ("/etc/apt/sources.list", "/etc/apt/sources.list.d/debian.sources")
"""Files in which Debian names its archive: the older form, and the newer one."""
LIMIT_S = 600
"""Seconds for one command of apt or dpkg."""


class Archive:
    """The Debian archive of this machine, with source packages.

    Args:
        folder: for apt's lists, for what is fetched, and for what is unpacked.

    Raises:
        SystemExit: this machine has no apt, or its archive cannot be reached.
    """

    def __init__(self, folder: Path) -> None:
        self._downloads = folder / "fetched"
        self._lists = folder / "lists"
        self._sources = folder / "sources.list.d"
        self.root = folder / "root"
        """Files of binary packages, as they would lie below `/`."""
        for path in (self._downloads, self._lists / "partial", self._sources, self.root):
            path.mkdir(parents=True, exist_ok=True)
        for file in map(Path, SOURCES):
            if file.is_file():
                (self._sources / file.name).write_text(with_source_packages(file.read_text()), encoding="utf-8")
        self._apt("update")

    def unpack(self, *names: str) -> list[str]:
        """Fetch packages, unpack them below `root`, and return their names with versions."""
        self._apt("download", *names)
        versions = []
        for name in names:
            (file,) = self._downloads.glob(f"{name}_*.deb")
            _run("dpkg-deb", "--extract", file, self.root)
            versions.append(_run("dpkg-deb", "--showformat=${Package} ${Version}", "--show", file).strip())
        return versions

    def unpack_source(self, name: str, target: Path) -> str:
        """Fetch a source package, unpack it with Debian's patches into a new folder, and return name and version."""
        self._apt("source", "--download-only", name)
        (description,) = self._downloads.glob(f"{name}_*.dsc")
        _run("dpkg-source", "--no-check", "--extract", description, target)  # apt has checked it already
        version = re.search(r"^Version: (\S+)", description.read_text(encoding="utf-8"), re.MULTILINE)
        return f"{name} {version.group(1) if version else 'of an unknown version'}"

    def _apt(self, *words: str) -> None:
        options = {
            "Dir::Etc::sourcelist": "/dev/null",
            "Dir::Etc::sourceparts": self._sources,
            "Dir::State::lists": self._lists,
            "Dir::Cache": self._lists.parent / "cache",
            "APT::Sandbox::User": "root",  # a folder of the user is closed to apt's own user
        }
        settings = [word for name, value in options.items() for word in ("--option", f"{name}={value}")]
        _run("apt-get", "--quiet", *settings, *words, folder=self._downloads)


def with_source_packages(text: str) -> str:
    """A file that names archives, in either form, so that it names their source packages, too."""
    newer = re.sub(r"^Types: deb$", "Types: deb deb-src", text, flags=re.MULTILINE)
    return re.sub(r"^deb (.*)$", r"deb \1\ndeb-src \1", newer, flags=re.MULTILINE)


def _run(*words: object, folder: Path | None = None) -> str:
    command = [str(word) for word in words]
    try:
        process = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    except FileNotFoundError:
        raise SystemExit(f"There is no {command[0]} here. The first run needs Debian 12.") from None
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{process.stderr[-2000:]}")
    return process.stdout

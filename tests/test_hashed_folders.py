"""Folders of graphs held against a launch: what their names were made of, and whether the sources are unchanged."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from compiled_samples import CACHES
from factors_samples import BOTH, NEW, OLD, changed, factors, warm_record
from hashed_samples import CODE, REAL, compiled, graphs_folder, key_factors, name_of, sha256, with_variable
from msgspec import structs
from plain_worker import concealed

from cache.compiled.factors import env_hash, folder_name, parse_factors, paths_named
from cache.compiled.layout import read_root
from cache.compiled.warm_record import WarmRecord, write_record
from tuner.compile_cache.difference import Effect
from tuner.compile_cache.graph_folders import GraphFolder, Sources, graph_folders

OPTION = ("config", "parts", "model_config", "factors", "max_model_len")


def held(root: Path, document: Mapping[str, Any], *moved: str) -> list[GraphFolder]:
    """The folders of a root held against a launch."""
    return graph_folders(read_root(root), document, set(moved))


def only(root: Path, document: Mapping[str, Any], *moved: str) -> GraphFolder:
    """As `held`, for a root with one folder."""
    (found,) = held(root, document, *moved)
    return found


def recorded(root: Path, document: Mapping[str, Any], *entries: str, **changes: Any) -> WarmRecord:
    """Write the record of the warm-up with this document, which filled these entries."""
    record = structs.replace(warm_record(document), entries=entries, **changes)
    write_record(root, record)
    return record


def test_the_hash_of_the_variables_is_vllms() -> None:
    """The document of 0.32.0 holds the values and the hash that vLLM made of them."""
    variables = factors(NEW)["variables"]
    assert env_hash(variables["values"]) == variables["hash"]


def test_the_name_follows_from_the_factors() -> None:
    """The first ten digits over the text of the list of the four hashes."""
    told = {"env": {"A": 1}, "config_hash": "e" * 10, "code_hash": CODE, "compiler_hash": "d" * 10}
    env = sha256('{"A": 1}')
    assert folder_name(told) == sha256(f"['{env}', 'eeeeeeeeee', '{CODE}', 'dddddddddd']")[:10]


@pytest.mark.parametrize("file", REAL, ids=lambda file: file.parent.name)
def test_a_real_folder_is_named_by_its_factors(file: Path) -> None:
    """As vLLM wrote them, and they are the compiler's of the documents made on the same machine."""
    told = parse_factors(file.read_bytes())
    assert told is not None
    assert (folder_name(told), name_of(told)) == (file.stem, file.stem)
    environment = {"0.19.1": OLD, "0.32.0": NEW}[file.parent.name]
    assert told["compiler_hash"] == factors(environment)["keys"]["graphs"]["compiler_hash"]
    assert set(told["env"]) == set(factors(environment)["variables"]["values"])


def test_there_is_a_real_folder_of_each_release() -> None:
    """Else the test above holds of nothing."""
    assert [file.parent.name for file in REAL] == ["0.19.1", "0.32.0"]


@pytest.mark.parametrize("environment", BOTH)
@pytest.mark.parametrize("aot", [True, False])
def test_a_folder_of_the_launch_fits(environment: str, aot: bool, tmp_path: Path) -> None:
    """Nothing differs; without a record nothing is known of the sources."""
    document = compiled(environment, aot=aot)
    graphs_folder(tmp_path, key_factors(document))
    folder = only(tmp_path, document)
    assert (folder.fits, folder.sources, folder.complete, folder.missing) == (True, Sources.UNKNOWN, True, ())
    assert (folder.name, folder.graphs, folder.prefixes) == (name_of(key_factors(document)), 1, 1)
    assert (folder.warmed, folder.parts, folder.moved) == (None, [], False)


def test_a_variable_is_named_with_its_fix(tmp_path: Path) -> None:
    """With both values, as for a key of an artifact."""
    document = compiled(NEW)
    graphs_folder(tmp_path, key_factors(document))
    folder = only(tmp_path, with_variable(document, "VLLM_PP_LAYER_PARTITION", "1,2"))
    (one,) = folder.differences
    assert (one.kind, one.name, one.before, one.after) == ("variable", "VLLM_PP_LAYER_PARTITION", None, "1,2")
    assert (one.effect, folder.parts, folder.fits) == (Effect.KEY, ["variables"], False)
    assert one.fix == "Leave VLLM_PP_LAYER_PARTITION unset, as while warming, or warm with it."


def test_a_folder_below_the_home_may_be_the_homes_doing(tmp_path: Path) -> None:
    """0.19.1 hashes it, and the folder does not tell HOME."""
    document = compiled(OLD)
    graphs_folder(tmp_path, key_factors(document))
    (one,) = only(tmp_path, with_variable(document, "VLLM_CONFIG_ROOT", "/home/me/.config/vllm")).differences
    assert (one.kind, one.name) == ("home", "VLLM_CONFIG_ROOT")
    assert "Keep HOME" in one.fix


def test_a_secret_is_told_by_its_digest(tmp_path: Path) -> None:
    """The folder holds it in clear up to 0.28.0; the launch's own is a digest already, made in the same way."""
    document = compiled(OLD)
    graphs_folder(tmp_path, key_factors(with_variable(document, "VLLM_API_KEY", "open-sesame")))
    (one,) = only(tmp_path, document).differences
    assert (one.name, one.before, one.after) == ("VLLM_API_KEY", concealed("VLLM_API_KEY", "open-sesame"), None)
    assert "open-sesame" not in str(one)


def test_a_difference_that_no_value_shows_is_told(tmp_path: Path) -> None:
    """`1` and `true` are equal in Python, and hash otherwise."""
    document = compiled(NEW)
    graphs_folder(tmp_path, key_factors(with_variable(document, "VLLM_USE_AOT_COMPILE", 1)))
    (one,) = only(tmp_path, document).differences
    assert (one.kind, one.name) == ("variable", "env")


def test_a_hash_without_a_record_says_how_to_know_more(tmp_path: Path) -> None:
    """Config and compiler, each with both hashes."""
    document = compiled(NEW)
    graphs_folder(tmp_path, {**key_factors(document), "config_hash": "e" * 10, "compiler_hash": "d" * 10})
    config, compiler = only(tmp_path, document).differences
    assert (config.kind, config.name, config.before) == ("config", "config_hash", "e" * 10)
    assert "only a record of `tuner cache warm` tells" in config.fix
    assert (compiler.kind, compiler.name, compiler.before) == ("compiler", "compiler_hash", "d" * 10)
    assert "torch, Triton, GPU" in compiler.fix


def test_a_record_names_what_hides_in_a_hash(tmp_path: Path) -> None:
    """The option that moved the config's hash, and the GPU that moved the compiler's; the python is in neither."""
    document = compiled(OLD)
    recorded(tmp_path, document, graphs_folder(tmp_path, key_factors(document)))
    other = changed(changed(document, 128, *OPTION), "f" * 10, "config", "hash")
    assert [difference.name for difference in only(tmp_path, other).differences] == ["model_config.max_model_len"]
    other = changed(changed(document, "NVIDIA H100", "system", "gpu"), "f" * 10, "keys", "graphs", "compiler_hash")
    (one,) = only(tmp_path, changed(other, "3.11.8", "system", "python")).differences
    assert (one.name, one.after, one.effect) == ("gpu", "NVIDIA H100", Effect.KEY)


def test_another_release_is_told_as_the_release(tmp_path: Path) -> None:
    """It is hashed with the config."""
    document = compiled(NEW)
    recorded(tmp_path, document, graphs_folder(tmp_path, key_factors(document)))
    other = changed(changed(document, "0.33.0", "system", "vllm"), "f" * 10, "config", "hash")
    folder = only(tmp_path, other)
    assert ([difference.name for difference in folder.differences], folder.parts) == (["vllm"], ["config"])
    assert folder.sources is Sources.UNKNOWN


@pytest.mark.parametrize("environment", BOTH)
def test_the_record_of_the_folder_tells_of_its_sources(environment: str, tmp_path: Path) -> None:
    """Unchanged, if none differs; changed, if the compiled function's own does; else only a trace could tell."""
    document = compiled(environment)
    recorded(tmp_path, document, graphs_folder(tmp_path, key_factors(document)), hit=True)
    assert (only(tmp_path, document).sources, only(tmp_path, document).warmed) == (Sources.SAME, True)
    own = document["keys"]["graphs"]["modules"][0]["file"]
    for file, said in ((own, Sources.CHANGED), ("vllm/model_executor/layers/new.py", Sources.UNKNOWN)):
        folder = only(tmp_path, changed(document, "0" * 64, "sources", file))
        assert (folder.sources, folder.warmed, folder.fits) == (said, None, True)
    assert only(tmp_path, changed(document, "/elsewhere/vllm", "paths", "vllm")).sources is Sources.CHANGED


def test_what_moves_nothing_keeps_the_record(tmp_path: Path) -> None:
    """HOME is not hashed from 0.27 on."""
    document = compiled(NEW)
    recorded(tmp_path, document, graphs_folder(tmp_path, key_factors(document)), hit=True)
    folder = only(tmp_path, changed(document, "/home/me", "paths", "HOME"))
    assert (folder.fits, folder.sources, folder.warmed) == (True, Sources.SAME, True)


def test_the_folder_of_the_same_launch_is_its_own(tmp_path: Path) -> None:
    """Even if the engine hashed something that was not foreseen: the warm-up named it, and nothing differs."""
    document = compiled(OLD)
    recorded(tmp_path, document, graphs_folder(tmp_path, {**key_factors(document), "compiler_hash": "d" * 10}))
    assert only(tmp_path, document).fits


@pytest.mark.parametrize("factors_of_record", [{}, {"config": {}}, {"config": {"parts": {"model_config": 1}}}])
def test_a_damaged_record_tells_nothing(factors_of_record: dict[str, Any], tmp_path: Path) -> None:
    """The folder is judged without it."""
    document = compiled(OLD)
    path = graphs_folder(tmp_path, key_factors(document))
    recorded(tmp_path, document, path, factors=document | factors_of_record if factors_of_record else {})
    folder = only(tmp_path, document)
    assert (folder.fits, folder.sources) == (True, Sources.UNKNOWN)


def test_the_nearest_comes_first(tmp_path: Path) -> None:
    """By the parts that differ, then by the variables; of equals the folder of the model's own warm-up."""
    document = compiled(NEW)
    two = with_variable(with_variable(document, "VLLM_A", "1"), "VLLM_B", "1")
    folders = [
        graphs_folder(tmp_path, {**key_factors(two), "config_hash": "1" * 10}),
        graphs_folder(tmp_path, key_factors(two)),
        graphs_folder(tmp_path, {**key_factors(document), "config_hash": "2" * 10}),
        graphs_folder(tmp_path, {**key_factors(document), "config_hash": "3" * 10}),
        graphs_folder(tmp_path, key_factors(document), name="0" * 10),
    ]
    other = changed(document, "other", "config", "parts", "model_config", "factors", "model")
    recorded(tmp_path, other, folders[2], digest="2" * 64, model="other")
    model = document["config"]["parts"]["model_config"]["factors"]["model"]
    recorded(tmp_path, changed(document, 128, *OPTION), folders[3], digest="3" * 64, model=model)
    names = [f"torch_compile_cache/{one.name}" for one in held(tmp_path, document)]
    assert names == [folders[3], folders[2], folders[1], folders[0], folders[4]]


def test_a_folder_under_another_name_is_not_known(tmp_path: Path) -> None:
    """Only the name that follows is looked in; one without factors says nothing either."""
    document = compiled(NEW)
    graphs_folder(tmp_path, key_factors(document), name="0123456789")
    assert not only(tmp_path, document).factors_known
    for file in tmp_path.rglob("cache_key_factors.json"):
        file.unlink()
    assert not only(tmp_path, document).factors_known


def test_factors_that_are_made_up_are_not_believed() -> None:
    """Those of the layout in `compile_caches/graphs`, which is made by hand, do not lead to their folder."""
    folder = only(CACHES / "graphs", compiled(NEW))
    assert (folder.name, folder.factors_known, folder.complete) == ("0a1b2c3d4e", False, True)


def test_a_second_module_of_an_engine_uses_the_firsts_folder(tmp_path: Path) -> None:
    """Its own factors have another hash of traced files."""
    document = compiled(NEW)
    graphs_folder(tmp_path, key_factors(document), places=("0_0/backbone", "0_0/eagle_head"))
    second = key_factors(document, "b" * 64)
    next(tmp_path.rglob("eagle_head/cache_key_factors.json")).write_text(json.dumps(second), encoding="utf-8")
    folder = only(tmp_path, document)
    assert (folder.fits, folder.prefixes) == (True, 2)


def test_a_rank_without_graphs_is_named(tmp_path: Path) -> None:
    """Each rank of the tensor-parallel group has a folder of its own."""
    document = compiled(NEW)
    graphs_folder(tmp_path, key_factors(document))
    path = ("config", "parts", "parallel_config", "factors", "tensor_parallel_size")
    assert only(tmp_path, changed(document, 2, *path)).missing == ("rank_1_0",)


@pytest.mark.parametrize(("environment", "moved"), [(OLD, True), (NEW, False)])
def test_an_index_of_another_place_counts_through_0_31(environment: str, moved: bool, tmp_path: Path) -> None:
    """0.32.0 looks beside the index."""
    document = compiled(environment)
    assert only(tmp_path, document, graphs_folder(tmp_path, key_factors(document))).moved is moved


def test_other_entries_are_no_such_folders(tmp_path: Path) -> None:
    """An explicit `cache_dir` has no key, and an artifact has its own."""
    document = compiled(NEW)
    graphs_folder(tmp_path, key_factors(document))
    (tmp_path / "torch_compile_cache").rename(tmp_path / "tuner")
    next((tmp_path / "tuner").iterdir()).rename(tmp_path / "tuner" / ("0" * 32))
    assert held(tmp_path, document) == []


def test_hostile_factors_are_survived() -> None:
    """Values of any kind, deep ones included, lead to some name or none."""
    for text in ('{"env": {"A": "\\ud800"}, "config_hash": {"a": [1]}}', '{"env": {"A": 1.5}, "code_hash": null}'):
        told = parse_factors(text.encode())
        assert told is not None
        assert len(folder_name(told)) == 10
    assert parse_factors(b'{"env": {"A": 1e999}}') is None
    assert paths_named(b"{1: ('a', '/srv/a b'), 2: ('/x',)}") == {"/srv/a b", "/x"}

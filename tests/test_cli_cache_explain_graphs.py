"""`tuner cache explain` for launches that load graphs from a folder of their own, with or beside an artifact."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from explain_bench import Bench
from factors_samples import NEW, OLD, changed
from hashed_samples import compiled, graphs_folder, key_factors, name_of, with_variable


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A launch of 0.19.1 without artifacts, and an empty cache."""
    found = Bench(tmp_path, monkeypatch)
    found.will_say(compiled(OLD, aot=False))
    return found


def filled(bench: Bench, **changes: Any) -> str:
    """Fill the cache with the graphs of the launch as it is now, and record that; the folder's path."""
    path = graphs_folder(bench.root, key_factors(bench.document))
    bench.record(entries=(path,), **changes)
    return path


def test_graphs_of_a_recorded_warm_up_are_a_hit(bench: Bench) -> None:
    """Without artifacts the graphs answer; the folder is named."""
    path = filled(bench)
    said = bench.ask(code=0).out.splitlines()
    name = Path(path).name
    assert said[:2] == ["cache: hit", f"  The folder of graphs is {name}, and they are there."]
    assert f"graphs: {name}, its source files are unchanged" in said


def test_without_a_record_it_is_not_known(bench: Bench) -> None:
    """The same folder: whether its traced files are unchanged, nothing tells."""
    graphs_folder(bench.root, key_factors(bench.document))
    output = bench.ask(code=3).out
    assert output.startswith("cache: unknown\n")
    assert "whether its source files are unchanged is not known" in output


def test_a_cache_root_without_graphs_is_a_miss(bench: Bench) -> None:
    """Empty, or not there at all."""
    assert "There is no folder of graphs in this cache root." in bench.ask(code=6).out
    bench.root.rmdir()
    assert "There is no folder of graphs in this cache root." in bench.ask(code=6).out


def test_what_differs_from_the_nearest_folder_is_named_with_its_fix(bench: Bench) -> None:
    """As text and as JSON, and without a record, too."""
    path = graphs_folder(bench.root, key_factors(bench.document))
    bench.will_say(with_variable(bench.document, "VLLM_PP_LAYER_PARTITION", "1,2"))
    output = bench.ask(code=6).out
    name = Path(path).name
    assert f"  No folder of graphs has this launch's key; the nearest, {name}, differs in variables." in output
    assert (
        f"graphs: nearest is {name}:\n  moves the key: variable VLLM_PP_LAYER_PARTITION: (none) -> 1,2\n    Lea"
        in output
    )
    (folder,) = bench.ask("--json", code=6).document["graphs"]
    assert (folder["name"], folder["fits"], folder["sources"], folder["complete"]) == (name, False, "unknown", True)
    assert [(difference["name"], difference["effect"]) for difference in folder["differences"]] == [
        ("VLLM_PP_LAYER_PARTITION", "key")
    ]


def test_what_differs_is_told_once(bench: Bench) -> None:
    """The field that hides in the hash of the config stands among the differences from the warm-up."""
    path = filled(bench)
    launch = changed(bench.document, 128, "config", "parts", "model_config", "factors", "max_model_len")
    bench.will_say(changed(launch, "f" * 10, "config", "hash"))
    output = bench.ask(code=6).out
    assert f"graphs: nearest is {Path(path).name}, which differs as the warm-up does\n" in output
    assert output.count("config model_config.max_model_len: 256 -> 128") == 1


def test_a_traced_file_that_changed_is_a_miss(bench: Bench) -> None:
    """The compiled function's own; of another it is not known whether it was traced."""
    filled(bench)
    launch = bench.document
    own = launch["keys"]["graphs"]["modules"][0]["file"]
    bench.will_say(changed(launch, "0" * 64, "sources", own))
    output = bench.ask(code=6).out
    assert "cache: miss" in output
    assert f"moves the key: source {own}" in output
    bench.will_say(changed(launch, "0" * 64, "sources", "vllm/model_executor/layers/new.py"))
    assert "cache: unknown" in bench.ask(code=3).out


def test_what_the_warm_up_saw_decides(bench: Bench) -> None:
    """A second start that could not load them is a miss."""
    filled(bench, hit=False)
    assert "the warm-up could not load them" in bench.ask(code=6).out


def test_graphs_that_are_not_whole_are_a_miss(bench: Bench) -> None:
    """The index names a graph that is gone."""
    filled(bench)
    next(bench.root.rglob("artifact_*")).unlink()
    assert "it is not whole: 1 graphs that vllm_compile_cache.py names are missing" in bench.ask(code=6).out


def test_a_cache_that_was_moved_by_hand_is_not_known(bench: Bench) -> None:
    """0.19.1 looks under the paths of the old place."""
    filled(bench)
    moved = bench.folder / "moved"
    shutil.move(bench.root, moved)
    bench.root = moved
    assert "its index leads to another place" in bench.ask(code=3).out


def test_a_cache_behind_a_link_is_not_moved(bench: Bench) -> None:
    """The paths lead to the same folder."""
    filled(bench)
    link = bench.folder / "link"
    link.symlink_to(bench.root)
    bench.root = link
    bench.ask(code=0)


def test_an_artifact_without_its_graphs_is_a_miss(bench: Bench) -> None:
    """0.19.1 to 0.26.0 keep the compiled code in the folder of graphs; with it there, it is a hit."""
    bench.will_say(compiled(OLD))
    bench.artifact()
    output = bench.ask(code=6).out
    assert "The artifacts are there under the predicted key.\n  There is no folder of graphs" in output
    path = graphs_folder(bench.root, key_factors(bench.document))
    assert bench.ask(code=3).out.startswith("cache: unknown\n")
    bench.record(entries=(path,))
    assert bench.ask(code=0).out.startswith("cache: hit\n")


def test_an_artifact_that_holds_the_code_needs_no_graphs(bench: Bench) -> None:
    """As from 0.27 on: the folders of graphs are not looked at."""
    bench.will_say(compiled(NEW))
    bench.artifact()
    graphs_folder(bench.root, key_factors(bench.document))
    assert bench.ask("--json", code=0).document["graphs"] == []


def test_a_secret_in_a_folder_is_not_shown(bench: Bench) -> None:
    """VLLM up to 0.28.0 writes it there in clear."""
    graphs_folder(bench.root, key_factors(with_variable(bench.document, "VLLM_API_KEY", "open-sesame")))
    answer = bench.ask("--json", code=6)
    assert "open-sesame" not in answer.out
    assert "VLLM_API_KEY" in answer.out
    assert "open-sesame" not in bench.ask(code=6).out


def test_what_a_folder_says_does_not_reach_the_terminal_raw(bench: Bench) -> None:
    """Control characters are written as escapes."""
    graphs_folder(bench.root, key_factors(with_variable(bench.document, "VLLM_A", "\x1b[2J")))
    output = bench.ask(code=6).out
    assert "\x1b" not in output
    assert "VLLM_A: \\x1b[2J -> (none)" in output


def test_a_hostile_folder_is_told_as_not_known(bench: Bench) -> None:
    """Its factors are of no use, and nothing is concluded from them."""
    factors = key_factors(bench.document)
    path = bench.root / graphs_folder(bench.root, factors)
    for text in ("[]", "{", json.dumps(factors | {"env": {"A": 1}}), '{"env": {"A": ' + "[" * 9000 + "]" * 9000 + "}}"):
        (path / "rank_0_0" / "backbone" / "cache_key_factors.json").write_text(text, encoding="utf-8")
        output = bench.ask(code=3).out
        assert f"What the name of the folder {name_of(factors)} was made of is not known." in output

"""`tuner cache list`: the table, the document, where the root is looked for, and what is never printed."""

import time
from pathlib import Path

import pytest
from compiled_samples import AOT_19, AOT_32, BACKBONE, GRAPHS, cache_of, made_file, recorded
from fake_environment import tuner

from tuner.compile_cache.size import size_text
from tuner.compile_cache.text import span_text

NOW = time.time()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """All samples, unused for three days; one has a record."""
    root = cache_of(tmp_path, "0.19.1", "0.32.0", "graphs", days=3, now=NOW)
    recorded(root, AOT_32)
    return root


def test_the_table_has_one_line_an_entry(root: Path) -> None:
    """Model, vLLM and GPU stand where a record names the entry, and `-` where none does."""
    text = tuner("cache", "list", "--cache-root", root, code=0).out
    lines = [" ".join(line.split()) for line in text.splitlines()]

    assert lines[0] == "KIND NAME MODEL VLLM GPU AGE LAST USE SIZE STATE LAUNCH"
    assert lines[1] == "graphs 0a1b2c3d4e - - - 3 d 3 d 2.2 KiB complete -"
    known = "aot 848b025eb45f org/model 0.32.0 NVIDIA H100 3 d 3 d 77 B complete d1d1d1d1d1d1"
    assert lines[2] == known
    assert lines[3] == "aot a5fdba03ec60 - - - 3 d 3 d 16 B complete -"
    assert lines[6] == "modelinfos 902 B 1 file"
    assert "total 3 entries, 2.3 KiB" in lines


def test_the_document_has_all_of_it(root: Path) -> None:
    """Versioned, in bytes and UTC, with the launches of each entry and what lies beside."""
    document = tuner("cache", "list", "--cache-root", root, "--json", code=0).document
    entries = {entry["path"]: entry for entry in document["entries"]}
    beside = {entry["path"]: entry["bytes"] for entry in document["beside"]}

    assert (document["schema_version"], document["root"]) == (1, str(root))
    assert list(entries) == [GRAPHS, AOT_32, AOT_19]
    assert entries[AOT_32]["launches"][0]["gpu"] == "NVIDIA H100"
    assert (entries[AOT_32]["ranks"], entries[AOT_32]["complete"]) == (["0_0"], True)
    assert entries[AOT_32]["made"] == entries[AOT_32]["last_used"]
    assert entries[AOT_32]["made"].endswith("+00:00")
    assert entries[GRAPHS]["hashes"]["rank_0_0/backbone/cache_key_factors.json"]["config_hash"] == "e" * 64
    assert beside["modelinfos"] == 902
    assert document["totals"]["bytes"] == 2278 + 77 + 16
    assert document["totals"]["beside_bytes"] == sum(beside.values())


def test_the_factors_are_never_printed(root: Path) -> None:
    """They hold variables in clear."""
    path = root / BACKBONE / "cache_key_factors.json"
    path.write_text(path.read_text().replace('"VLLM_API_KEY": null', '"VLLM_API_KEY": "sk-of-somebody"'))

    for options in ([], ["--json"]):
        assert "sk-of" not in tuner("cache", "list", "--cache-root", root, *options, code=0).out


def test_damage_and_leftovers_are_noted(root: Path) -> None:
    """Records that name what is gone, records and factors that cannot be read, temporary names."""
    (root / BACKBONE / "cache_key_factors.json").write_text("{")
    made_file(root / AOT_19 / "rank_0_0/model.12.tmp")
    made_file(root / "tuner-warm/bad.json")
    recorded(root, "torch_compile_cache/ffffffffff", digest="e2" * 32)
    text = tuner("cache", "list", "--cache-root", root, code=0).out

    assert f"{BACKBONE}/cache_key_factors.json is damaged" in text
    assert f"{AOT_19}/rank_0_0/model.12.tmp was left over" in text
    assert "bad.json is damaged" in text
    assert "the record e2e2e2e2e2e2 of org/model names what is not there: torch_compile_cache/ffffffffff" in text


def test_the_root_is_where_vllm_keeps_its_caches(root: Path, tmp_path: Path) -> None:
    """The option, then TUNER_CACHE_ROOT, VLLM_CACHE_ROOT (with a `~`), XDG_CACHE_HOME, and the home folder."""
    home = tmp_path / "home"
    (home / ".cache").mkdir(parents=True)
    (home / ".cache/vllm").symlink_to(root)
    missing = {"TUNER_CACHE_ROOT": "/missing", "VLLM_CACHE_ROOT": "/missing", "XDG_CACHE_HOME": "/missing"}
    unset = dict.fromkeys(missing, "")
    cases = [
        (["--cache-root", root], missing),
        ([], {**missing, "TUNER_CACHE_ROOT": str(root)}),
        ([], {**missing, "TUNER_CACHE_ROOT": "", "VLLM_CACHE_ROOT": "~/.cache/vllm"}),
        ([], {**unset, "XDG_CACHE_HOME": str(home / ".cache")}),
        ([], unset),
    ]
    for options, variables in cases:
        answer = tuner("cache", "list", *options, "--json", env={"HOME": str(home), **variables}, code=0)
        assert answer.document["root"] == str(root)


@pytest.mark.parametrize("command", [["list"], ["scan"], ["prune", "--older-than", "1"]])
def test_a_root_that_is_not_there_is_an_error(tmp_path: Path, command: list[str]) -> None:
    """It says which folder, where the name comes from, and what to do; a file is not a root either."""
    missing = tmp_path / "no-root"
    answer = tuner("cache", *command, "--json", env={"VLLM_CACHE_ROOT": str(missing)}, code=1)
    assert answer.document["error"]["kind"] == "cache"
    assert f"There is no folder {missing}." in answer.err
    assert "VLLM_CACHE_ROOT in the environment" in answer.err
    assert not missing.exists()
    made_file(missing)
    tuner("cache", *command, "--cache-root", missing, code=1)


def test_an_empty_root_is_no_error(tmp_path: Path) -> None:
    """It has no entries, and nothing else."""
    text = tuner("cache", "list", "--cache-root", tmp_path, code=0).out
    assert "0 entries, 0 B" in text
    assert "KIND" not in text


def test_names_cannot_move_the_cursor(tmp_path: Path) -> None:
    """Names in the root and words of a record are text of anybody."""
    made_file(tmp_path / "a\x1b[31m\nb")
    text = tuner("cache", "list", "--cache-root", tmp_path, code=0).out
    assert "\x1b" not in text
    assert r"a\x1b[31m\nb" in text


def test_sizes_and_spans_are_read_at_a_glance() -> None:
    """Powers of 1024, and the largest unit of time that fits; a time in the future is now."""
    sizes = [size_text(size) for size in (0, 1023, 1024, 5 << 20, 3 << 30, 5000 << 30)]
    assert sizes == ["0 B", "1023 B", "1.0 KiB", "5.0 MiB", "3.0 GiB", "5000.0 GiB"]
    assert [span_text(span) for span in (-5, 59, 60, 7200, 86400 * 400)] == ["0 s", "59 s", "1 min", "2 h", "400 d"]

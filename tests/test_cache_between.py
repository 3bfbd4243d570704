"""`tuner cache explain --between`: what differs between two caches, or two servers' logs."""

import json
from pathlib import Path
from typing import Any

import pytest
from factors_samples import NEW, changed, factors, warm_record
from fake_environment import tuner

from cache.compiled.warm_record import record_document
from tuner.compile_cache.between import between
from tuner.compile_cache.difference import Effect

LOGS = Path(__file__).parent / "server_logs"
FACTORS = {
    "env": {"VLLM_API_KEY": "secret-1", "VLLM_USE_AOT_COMPILE": True, "CUDA_HOME": None},
    "config_hash": "e" * 64,
    "code_hash": "c" * 64,
    "compiler_hash": "d" * 64,
}


def folder(place: Path, **changes: Any) -> Path:
    """A folder of graphs with these factors."""
    file = place / "rank_0_0" / "backbone" / "cache_key_factors.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(FACTORS | changes), encoding="utf-8")
    return place


def record(place: Path, document: dict[str, Any]) -> Path:
    """A file with the record of a warm-up."""
    place.write_text(json.dumps(record_document(warm_record(factors(NEW), factors=document))), encoding="utf-8")
    return place


def log(place: Path, change: tuple[str, str] = ("", ""), name: str = "0.26.0-compiled") -> Path:
    """A recorded log with a text in it replaced."""
    text = (LOGS / f"{name}.log").read_text(encoding="utf-8")
    assert change[0] in text
    place.write_text(text.replace(*change) if change[0] else text, encoding="utf-8")
    return place


def test_equal_folders_do_not_differ(tmp_path: Path) -> None:
    """Nothing is named, and the command ends with 0."""
    first, second = folder(tmp_path / "a"), folder(tmp_path / "b")
    assert (
        "differences between these folders: none" in tuner("cache", "explain", "--between", first, second, code=0).out
    )


def test_a_variable_of_two_folders_is_named(tmp_path: Path) -> None:
    """With its fix; a folder and its file are of one kind."""
    first = folder(tmp_path / "a") / "rank_0_0" / "backbone" / "cache_key_factors.json"
    second = folder(tmp_path / "b", env={**FACTORS["env"], "VLLM_USE_AOT_COMPILE": False})  # type: ignore[dict-item]
    answer = tuner("cache", "explain", "--between", first, second, code=6)
    assert "moves the key: variable VLLM_USE_AOT_COMPILE: true -> false" in answer.out
    assert "Start with VLLM_USE_AOT_COMPILE=true" in answer.out


def test_a_secret_is_not_shown(tmp_path: Path) -> None:
    """Two API keys differ by their digests."""
    second = folder(tmp_path / "b", env={**FACTORS["env"], "VLLM_API_KEY": "secret-2"})  # type: ignore[dict-item]
    for options in ([], ["--json"]):
        answer = tuner("cache", "explain", *options, "--between", folder(tmp_path / f"a{len(options)}"), second, code=6)
        assert "VLLM_API_KEY" in answer.out
        assert "secret-" not in answer.out


@pytest.mark.parametrize("name", ["config_hash", "compiler_hash", "code_hash"])
def test_what_is_hashed_is_not_guessed(name: str, tmp_path: Path) -> None:
    """The hash is named, and that another kind of comparison names the factor."""
    compared = between(folder(tmp_path / "a"), folder(tmp_path / "b", **{name: "0" * 64}))
    assert [(each.name, each.effect) for each in compared.differences] == [(name, Effect.KEY)]
    assert compared.notes == (f"Of {name} vLLM keeps the hash alone; two logs, or two records, name the factor.",)


def test_records_name_every_factor(tmp_path: Path) -> None:
    """As for a launch and a warm-up."""
    after = changed(factors(NEW), "9.9.9", "system", "torch")
    compared = between(record(tmp_path / "a.json", factors(NEW)), record(tmp_path / "b.json", after))
    assert [(each.kind, each.name) for each in compared.counting] == [("compiler", "torch")]
    same = between(tmp_path / "a.json", tmp_path / "a.json")
    assert (same.counting, same.is_complete) == ((), True)


def test_records_without_factors_tell_nothing(tmp_path: Path) -> None:
    """That nothing is named is not that nothing differs: the command ends with 3."""
    answer = tuner("cache", "explain", "--between", record(tmp_path / "a.json", {}), record(tmp_path / "b.json", {}))
    assert answer.code == 3
    assert "does not say what vLLM's keys were made of" in answer.out


def test_two_logs_with_one_cache_have_no_factor_that_counts(tmp_path: Path) -> None:
    """A cold and a warm start of one launch: the same folders were used, so nothing moved a key."""
    first, second = log(tmp_path / "a.log"), log(tmp_path / "b.log", name="0.26.0-loaded")
    answer = tuner("cache", "explain", "--between", first, second, code=0)
    assert "Both used the same cache folders" in answer.out
    assert "e76e5d7251" in answer.out


def test_a_field_of_two_logs_is_named(tmp_path: Path) -> None:
    """Where the folders are others, each field that differs may be why."""
    other = (tmp_path / "b.log", ("max_seq_len=512", "max_seq_len=1024"))
    second = log(*other)
    second.write_text(second.read_text(encoding="utf-8").replace("e76e5d7251", "0000000000"), encoding="utf-8")
    answer = tuner("cache", "explain", "--between", log(tmp_path / "a.log"), second, code=6)
    assert "may compile again: config max_seq_len: 512 -> 1024" in answer.out
    assert "They used other cache folders: 4faee6a3e1e2" in answer.out


def test_other_folders_without_a_field_are_not_explained(tmp_path: Path) -> None:
    """A variable or a source file moved the key, which no log says: the command ends with 3."""
    second = log(tmp_path / "b.log", ("e76e5d7251", "0000000000"))
    answer = tuner("cache", "explain", "--between", log(tmp_path / "a.log"), second)
    assert answer.code == 3
    assert "differences between these logs: none" in answer.out


def test_two_kinds_are_not_compared(tmp_path: Path) -> None:
    """The message says what each is, and what to give."""
    answer = tuner("cache", "explain", "--between", folder(tmp_path / "a"), log(tmp_path / "b.log"), code=2)
    assert "is a folder of graphs or its file of factors" in answer.err
    assert "b.log is a log" in answer.err


def test_a_cache_root_is_not_one_cache(tmp_path: Path) -> None:
    """The folders in it are named."""
    folder(tmp_path / "root" / "torch_compile_cache" / "0123456789")
    answer = tuner("cache", "explain", "--between", tmp_path / "root", tmp_path / "root", code=2)
    assert str(tmp_path / "root" / "torch_compile_cache" / "0123456789") in answer.err


@pytest.mark.parametrize("content", [b"", b"{", b'{"env": 1}', b"\x00\xff" * 10, b"[" * 100_000])
def test_a_file_of_another_kind_is_refused(content: bytes, tmp_path: Path) -> None:
    """Damaged factors, and what is neither factors nor a log."""
    file = tmp_path / "x"
    file.write_bytes(content)
    assert "no line in which an engine prints" in tuner("cache", "explain", "--between", file, file, code=1).err


def test_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    """And so is a folder that says nothing of its key."""
    assert "gone cannot be read" in tuner("cache", "explain", "--between", tmp_path / "gone", tmp_path, code=1).err
    assert "holds no cache_key_factors.json" in tuner("cache", "explain", "--between", tmp_path, tmp_path, code=1).err


@pytest.mark.parametrize("words", [[], ["model", "--between", "a", "b"]])
def test_a_model_or_two_caches_are_named(words: list[str]) -> None:
    """Neither, or both, is a faulty usage."""
    tuner("cache", "explain", *words, code=2)


def test_of_two_releases_the_release_alone_is_named(tmp_path: Path) -> None:
    """Their fields differ by themselves, and the release is in every key."""
    compared = between(log(tmp_path / "a.log"), log(tmp_path / "b.log", name="0.32.0-true"))
    assert [(each.name, each.before, each.after) for each in compared.counting] == [("vllm", "0.26.0", "0.32.0")]


def test_a_field_within_a_dictionary_has_a_name_of_its_own(tmp_path: Path) -> None:
    """So that a long dictionary does not hide what differs in it."""
    second = log(tmp_path / "b.log", ("'size_asserts': False", "'size_asserts': True"))
    compared = between(log(tmp_path / "a.log"), second)
    names = [each.name for each in compared.differences]
    assert names == ["compilation_config.inductor_compile_config.size_asserts"]

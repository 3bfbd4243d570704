"""Stored verdicts and warm-ups are called by names that people know."""

from pathlib import Path

import pytest
from archive_samples import RECORD, SECOND, cache_in
from cache_samples import sample
from fake_environment import tuner
from msgspec.structs import replace

from cache.verdicts.entry import ProbeOrigin
from cache.verdicts.store import Entry, VerdictStore
from rules.errors import TunerError
from tuner.compile_cache.called import records_called
from tuner.verdicts.selection import entries_called, entry_called, forget_called

QWEN, QWEN_NEXT = "Qwen/Qwen3-30B-A3B", "Qwen/Qwen3-Next-80B-A3B"


def entry(number: int, model: str, architecture: str) -> Entry:
    """An entry of a model, told apart by its number."""
    folder = f"/models/{model.rpartition('/')[2]}"
    return replace(sample(number, architecture, vllm="0.19.1"), origin=ProbeOrigin(model, folder, "host"))


FIRST = entry(1, QWEN, "Qwen3MoeForCausalLM")
LATER = entry(2, QWEN, "Qwen3MoeForCausalLM")
NEXT = entry(3, QWEN_NEXT, "Qwen3NextForCausalLM")


@pytest.fixture
def verdicts(store: Path) -> VerdictStore:
    """A store of three entries: two of one model, one of another."""
    filled = VerdictStore(store)
    filled.put(FIRST, LATER, NEXT)
    return filled


@pytest.mark.parametrize(
    "word",
    [
        QWEN_NEXT,
        "Qwen3-Next-80B-A3B",
        "qwen3-next-80b-a3b",
        "Qwen3NextForCausalLM",
        "*next*",
        "Qwen/*-Next-*",
        "/models/Qwen3-Next-80B-A3B",
        NEXT.digest[:4],
        NEXT.digest[:4].upper(),
        NEXT.digest,
    ],
)
def test_an_entry_is_called_by_model_architecture_folder_pattern_or_key(verdicts: VerdictStore, word: str) -> None:
    """Case does not count, and the part of a hub id behind its slash is enough."""
    assert entry_called(verdicts, word) == NEXT


def test_a_name_of_several_entries_lists_them(verdicts: VerdictStore) -> None:
    """The error gives the start of each key, with the model and the release, and nothing is removed."""
    for question in (entry_called, forget_called):
        with pytest.raises(TunerError, match="2 stored verdicts are called 'Qwen3-30B-A3B'") as raised:
            question(verdicts, "Qwen3-30B-A3B")
        for candidate in (FIRST, LATER):
            assert f"{candidate.digest[:12]}  {QWEN}, vLLM 0.19.1" in raised.value.hint
        assert NEXT.digest[:12] not in raised.value.hint
    assert len(list(verdicts.entries())) == 3


@pytest.mark.parametrize("word", ["", "Qwen3", "Next", "abc", "0123456789", "Llama*", "Qwen3-[", NEXT.digest + "0"])
def test_a_name_that_fits_nothing_is_refused(verdicts: VerdictStore, word: str) -> None:
    """A part of a name is not a name, unless a pattern says so."""
    with pytest.raises(TunerError, match="No stored verdict is called"):
        entry_called(verdicts, word)


def test_a_bundle_takes_every_entry_of_a_name_once(verdicts: VerdictStore) -> None:
    """Words that overlap name an entry once, in the order of the words; one that fits nothing is refused."""
    assert entries_called(verdicts, [NEXT.digest[:8], "qwen*"]) == [NEXT, *sorted([FIRST, LATER], key=_digest)]
    with pytest.raises(TunerError, match="No stored verdict is called 'Llama'"):
        entries_called(verdicts, ["Qwen*", "Llama"])


def _digest(entry: Entry) -> str:
    return entry.digest


def test_the_command_line_takes_names(verdicts: VerdictStore) -> None:
    """`show` and `forget` take a name of one entry; several have the other name, and are listed with exit code 2."""
    at = ("--store", verdicts.path)
    assert NEXT.digest[:12] in tuner("verdicts", "show", "*next*", *at, code=1).err  # a sample has no whole report
    several = tuner("verdicts", "forget", QWEN, *at, code=2)
    assert f"\n  {FIRST.digest[:12]}  {QWEN}" in several.err
    assert tuner("verdicts", "forget", "Qwen3NextForCausalLM", *at, code=0).out == f"forgotten: {NEXT.digest}\n"
    assert list(verdicts.entries()) == sorted([FIRST, LATER], key=_digest)


def test_warm_ups_are_called_by_model_or_digest() -> None:
    """A digest comes first; a name means every record of the model."""
    other = replace(RECORD, digest="c" * 64, model="org/other", architecture="OtherForCausalLM")
    records = [RECORD, SECOND, other]
    assert records_called(records, "aaaa") == [RECORD]
    assert records_called(records, "tiny") == [RECORD, SECOND]
    assert records_called(records, "Other*") == [other]
    assert records_called(records, "aaa") == []


def test_a_cache_is_packed_by_the_name_of_its_model(tmp_path: Path) -> None:
    """Every warm-up of the model is taken."""
    root = cache_in(tmp_path / "cache", RECORD, SECOND)
    answer = tuner("cache", "pack", tmp_path / "c.zst", "--record", "tiny", "--cache-root", root, code=0)
    assert answer.out.count("warm-up ") == 2

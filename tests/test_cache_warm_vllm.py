"""`tuner cache warm` with a real vLLM on the CPU, where neither release can load the function that it saved."""

from pathlib import Path

import pytest
from fake_environment import tuner_process
from real_environment import checkpoint_of, python_of
from vllm_server import SERVER_ENVIRONMENT

from cache.compiled.entry import EntryKind
from cache.compiled.layout import read_root

pytestmark = pytest.mark.vllm

SMALL = ("--max-model-len", "256", "--max-num-batched-tokens", "256", "--max-num-seqs", "4")


def test_what_a_real_vllm_makes_of_its_cache_is_told(tmp_path: Path) -> None:
    """A whole entry is in the root, under the predicted name; the second start says that it compiles again, and why."""
    python, model = python_of("current"), checkpoint_of("current", tmp_path)
    ours = ("--python", python, "--store", tmp_path / "verdicts.sqlite", "--cache-root", tmp_path / "root", "--json")
    answer = tuner_process("cache", "warm", model, *ours, "--", *SMALL, env=SERVER_ENVIRONMENT, code=6)

    document = answer.document
    assert (document["hit"], document["proof"]) == (False, "0 loaded, 1 compiled")
    assert "finalize_loading" in document["reason"]
    (entry,) = read_root(tmp_path / "root").entries
    assert (entry.kind, [entry.path], entry.complete) == (EntryKind.AOT, document["entries"], True)
    assert [record.digest for record in read_root(tmp_path / "root").records] == [document["digest"]]
    assert [Path(entry.path).name] == [artifact["key"] for artifact in document["factors"]["keys"]["aot"]]

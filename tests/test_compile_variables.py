"""The table of variables in the compile cache's key, and what the key leaves out, against the files of each release."""

import ast
from pathlib import Path

import pytest

from rules.compile_variables import RELEASES, VARIABLES
from tools.make_compile_variables import FILE, files_at_hand, key_variables, module, spans_of

FILES = files_at_hand()
AT_HAND = [release for release in RELEASES if release in FILES and FILES[release].exists()]


def test_the_file_is_what_the_program_writes() -> None:
    """The table is of the files, where all of them are at hand."""
    if list(RELEASES) != AT_HAND:
        pytest.skip("Some releases are not here; `make setup-all-parsers` creates them.")
    assert FILE.read_text(encoding="utf-8") == module(FILES)


def test_spans_end_where_a_variable_is_left_out() -> None:
    """A variable that comes back has two."""
    assert spans_of(["1", "2", "4"], ["1", "2", "3", "4"]) == [("1", "2"), ("4", "4")]


def test_each_span_is_of_releases() -> None:
    """No span names a release that was not read."""
    assert {release for span in VARIABLES for release in span} <= set(RELEASES)


def test_what_counts_in_a_key() -> None:
    """The variables of the table, without those that the key ignores."""
    source = (
        "environment_variables: dict = {'VLLM_A': f, 'VLLM_B': f, 'OTHER': f}\n"
        "def compile_factors():\n    ignored_factors: set = {'VLLM_B'}\n"
    )
    assert key_variables(source) == {"VLLM_A"}
    with pytest.raises(TypeError, match="other tables"):
        key_variables("environment_variables = {}")


def _hashed(folder: Path, file: str, config: str) -> str:
    """The text of a config's `compute_hash`."""
    tree = ast.parse((folder / "config" / file).read_text(encoding="utf-8"))
    owner = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == config)
    return next(
        ast.unparse(node) for node in owner.body if isinstance(node, ast.FunctionDef) and node.name == "compute_hash"
    )


@pytest.mark.skipif(not AT_HAND, reason="No release is here; `make setup-all-parsers` creates them.")
def test_the_key_leaves_out_limits_and_draft_tokens() -> None:
    """`cache-root-shared` says so of each release; what LoRA's key leaves out does not change compiled code."""
    for release in AT_HAND:
        folder = FILES[release].parent
        assert "'limit_mm_per_prompt'" in _hashed(folder, "model.py", "ModelConfig"), release
        assert "num_speculative_tokens" not in _hashed(folder, "speculative.py", "SpeculativeConfig"), release
        lora = _hashed(folder, "lora.py", "LoRAConfig")
        assert all(f"self.{name}" in lora for name in ("max_lora_rank", "max_loras", "fully_sharded_loras")), release

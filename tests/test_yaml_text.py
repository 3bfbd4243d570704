"""YAML as text: reading a `vllm serve --config` file and writing one."""

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tuner.arguments.serve_arguments import parse
from tuner.yaml_text import Block, dump_documents, dump_vllm_config, load_mapping

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.text(), JSON_VALUES))
def test_a_written_compilation_config_is_read_back_by_the_launch(config: dict[str, Any]) -> None:
    """A config written to a file is the config that a launch with this file states."""
    text = dump_vllm_config({"model": "m", "compilation-config": config})
    arguments = parse(["--config", "serve.yaml"], read_text=lambda _path: text)
    assert arguments.compilation_config == config
    assert arguments.model == "m"


@given(st.dictionaries(st.from_regex(r"[a-z-]+", fullmatch=True), st.text() | st.integers() | st.just(value=True)))
def test_plain_options_survive_writing(options: dict[str, Any]) -> None:
    """Texts that look like numbers, dates or booleans in YAML come back as the texts they were."""
    assert load_mapping(dump_vllm_config(options)) == options


def test_mappings_are_written_as_json_text() -> None:
    """A nested mapping stops vLLM before 0.16.0; JSON text is understood by every release."""
    written = yaml.safe_load(dump_vllm_config({"compilation-config": {"fast_moe_cold_start": False}}))
    assert json.loads(written["compilation-config"]) == {"fast_moe_cold_start": False}


def test_options_keep_their_order() -> None:
    """Of two spellings of one option vLLM keeps the last, so order is meaning."""
    assert list(load_mapping(dump_vllm_config({"b": 1, "a": 2}))) == ["b", "a"]


@given(st.lists(st.dictionaries(st.text(), JSON_VALUES), min_size=1, max_size=3))
def test_documents_survive_writing(documents: list[dict[str, Any]]) -> None:
    """Any text is read back as it was, in ASCII, and with the keys in their order."""
    text = dump_documents(documents)
    assert text.isascii()
    assert [list(document.items()) for document in yaml.safe_load_all(text)] == [
        list(document.items()) for document in documents
    ]


@pytest.mark.parametrize(
    "word", ["y", "N", "on", "Off", "1e3", "0o17", "0x1F", "1_000", "12:30", "~", "null", ".5", "="]
)
def test_a_text_that_some_reader_takes_for_another_type_is_quoted(word: str) -> None:
    """YAML 1.1 and 1.2 differ in what is a boolean or a number; a quoted text is neither anywhere."""
    assert dump_documents([{"key": word}]) == f"key: '{word}'\n"


def test_arguments_stay_readable() -> None:
    """What no reader can take for anything else is bare; a block is shown line by line."""
    written = dump_documents([{"args": ["--max-model-len", "a/b:v1.2", "two\nlines"], "file": Block("x: 1\ny: 2\n")}])
    assert written == 'args:\n- --max-model-len\n- a/b:v1.2\n- "two\\nlines"\nfile: |\n  x: 1\n  y: 2\n'


@pytest.mark.parametrize(
    ("text", "reason"),
    [("", "no mapping"), ("- 1\n", "no mapping"), ("a: [\n", "not YAML"), ("!!python/object:os.system {}", "not YAML")],
)
def test_text_that_is_no_mapping_is_refused(text: str, reason: str) -> None:
    """A file that names no options is refused in one line; a tag that would build an object is not YAML to us."""
    with pytest.raises(ValueError, match=reason) as raised:
        load_mapping(text)
    assert "\n" not in str(raised.value)

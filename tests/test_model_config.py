"""Which model a folder holds, and what its fingerprint depends on."""

import json
import math
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules.errors import TunerError
from tuner.model.model import IRRELEVANT, describe, fingerprint, identify, parse_config, read_config, text_config
from tuner.untrusted.json_text import MAX_BYTES

QWEN = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "num_experts": 128,
    "rope_scaling": {"type": "yarn", "factor": 4.0},
    "torch_dtype": "bfloat16",
}


def save(folder: Path, config: object) -> Path:
    """Write a model folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return folder


def test_a_folder_is_identified_by_its_config(tmp_path: Path) -> None:
    """Name, folder, architectures and kind come out as the files say; a folder has no revision."""
    folder = save(tmp_path / "model", QWEN | {"architectures": ["First", "Second"]})
    model = identify(str(folder), revision="main")
    assert (model.name, model.folder, model.config["num_experts"]) == (str(folder), str(folder), 128)
    assert (model.architecture, model.architectures) == ("First", ("First", "Second"))
    assert (model.model_type, model.remote_code, model.revision) == ("qwen3_moe", False, None)


@pytest.mark.parametrize("name", ["model", "./model", "org/model", "../start/model", "~/model", "org/model/"])
def test_an_existing_folder_wins_over_a_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """However it is written, a folder that exists is taken, and its path is absolute."""
    for folder in ("start/model", "start/org/model"):
        save(tmp_path / folder, QWEN)
    monkeypatch.chdir(tmp_path / "start")
    monkeypatch.setenv("HOME", str(tmp_path / "start"))
    model = identify(name)
    assert model.name == name
    assert Path(model.folder).is_absolute()
    assert (Path(model.folder) / "config.json").is_file()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("./missing", "no folder ./missing"),
        ("/missing/model", "no folder /missing/model"),
        ("~/missing", "no folder ~/missing"),
        ("a/b/c", "no folder a/b/c"),
        ("missing/", "no folder missing/"),
        ("", "no folder"),
        ("..", "has no config.json"),
        ("org/mo del", "no folder org/mo del"),
        ("x" * 300, "no folder"),
        ("nul\0", "no folder"),
        ("s3://bucket/model", "remote address"),
    ],
)
def test_a_name_that_is_neither_folder_nor_hub_id_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    """A path that does not exist is never looked for on the hub."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(TunerError, match=words) as caught:
        identify(name)
    assert caught.value.kind == "model"
    assert caught.value.hint


def test_naming_a_file_tells_its_folder(tmp_path: Path) -> None:
    """Whoever passes the config.json itself is told what to pass."""
    folder = save(tmp_path / "model", QWEN)
    with pytest.raises(TunerError, match="is a file") as caught:
        identify(str(folder / "config.json"))
    assert str(folder) in caught.value.hint


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("", "is not JSON: .* line 1, column 1"),
        ('{"a": }', "is not JSON"),
        ("[]", "is not a JSON object"),
        ('"text"', "is not a JSON object"),
        ('{"rope_theta": NaN}', "number that cannot be read: NaN"),
        ('{"a": ' + "9" * 5000 + "}", "number that cannot be read"),
        ('{"a": ' + "[" * 50_000 + "]" * 50_000 + "}", "nested more than 100 levels"),
        ('{"a": ' + "[" * 150 + "1" + "]" * 150 + "}", "nested more than 100 levels"),
        ('{"a": [' + "{}," * 100_000 + "{}]}", "has more than 100,000 lists and objects"),
        ('{"a": [' + "1," * 1_000_001 + "1]}", "has more than 1,000,000 values"),
        ('{"n": 1, "n": 2}', "says `n` twice, and not the same"),
        ('{"a": {"\\u001b[31m": 1, "\\u001b[31m": [2]}}', r"says `\\x1b\[31m` twice, and not the same"),
        ('{"' + "k" * 1001 + '": 1}', "a field whose name is longer than 1,000 characters"),
        ('{"architectures": ["' + "A" * 201 + '"]}', "not a list of names"),
        ('{"architectures": ["A\\u001b[2J"]}', "not a list of names"),
        ("{}", "names no `architectures`"),
        ('{"architectures": null}', "names no `architectures`"),
        ('{"architectures": []}', "names no `architectures`"),
        ('{"architectures": "Qwen3MoeForCausalLM"}', "not a list of names"),
        ('{"architectures": [1]}', "not a list of names"),
        ('{"architectures": [" "]}', "not a list of names"),
    ],
)
def test_an_unusable_config_is_an_error_that_names_the_file(tmp_path: Path, config: str, words: str) -> None:
    """Each kind of damage ends in a sentence with the file in it and a way out."""
    folder = save(tmp_path / "model", config)
    with pytest.raises(TunerError, match=words) as caught:
        identify(str(folder))
    assert str(folder / "config.json") in caught.value.message
    assert caught.value.hint
    assert caught.value.kind == "model"


def test_bytes_that_are_no_text_and_huge_files_are_errors(tmp_path: Path) -> None:
    """A binary file and one beyond 16 MiB are refused without being taken in whole."""
    with pytest.raises(TunerError, match="not UTF-8: byte 1 "):
        parse_config(b'"\xff"', "config.json")
    folder = save(tmp_path / "model", "{}")
    os.truncate(folder / "config.json", 100 * MAX_BYTES)  # sparse: takes no space
    with pytest.raises(TunerError, match="larger than 16 MiB"):
        read_config(folder)


def test_a_folder_without_a_config_is_an_error(tmp_path: Path) -> None:
    """Missing, and Mistral's own format, are each told apart from damage."""
    with pytest.raises(TunerError, match=r"has no config\.json"):
        identify(str(tmp_path))
    (tmp_path / "params.json").write_text("{}")
    with pytest.raises(TunerError, match="Mistral's own format"):
        identify(str(tmp_path))


def test_what_transformers_accepts_is_kept(tmp_path: Path) -> None:
    """Unknown keys, absurd numbers, a key repeated as it was and Infinity, as Nemotron-H publishes, are not errors."""
    text = '{"architectures": ["A"], "x": {"y": -1e400}, "n": 2, "n": 2, "time_step_limit": [0.0, Infinity]}'
    config = identify(str(save(tmp_path, text))).config
    assert config["n"] == 2
    assert config["x"]["y"] == -math.inf
    assert config["time_step_limit"] == [0.0, math.inf]


@pytest.mark.parametrize(("auto_map", "remote"), [({"AutoConfig": "conf.Conf"}, True), ({}, False), (None, False)])
def test_a_model_with_code_of_its_own_is_marked(tmp_path: Path, auto_map: object, remote: bool) -> None:
    """`auto_map` names Python code that vLLM runs only with --trust-remote-code."""
    assert describe("m", tmp_path, QWEN | {"auto_map": auto_map}).remote_code is remote


@pytest.mark.parametrize("key", sorted(IRRELEVANT | {"attention_dropout", "classifier_dropout"}))
def test_the_fingerprint_ignores_what_cannot_matter(key: str) -> None:
    """At the top and in a nested part, such a key changes nothing."""
    nested = QWEN | {"text_config": {"num_experts": 8}}
    assert fingerprint(QWEN | {key: 0.5}) == fingerprint(QWEN)
    assert fingerprint(QWEN | {"text_config": {"num_experts": 8, key: [1]}}) == fingerprint(nested)


@pytest.mark.parametrize(
    "change",
    [
        {"num_experts": 64},
        {"num_experts": 128.0},
        {"architectures": ["Other"]},
        {"rope_scaling": {"type": "yarn", "factor": 8.0}},
        {"torch_dtype": "float16"},
        {"top_k": 2},
        {"never_heard_of": None},
        {"quantization_config": {"quant_method": "fp8"}},
        {"auto_map": {"AutoModel": "m.M"}},
        {"image_token_id": 7},
    ],
)
def test_the_fingerprint_depends_on_everything_else(change: dict[str, Any]) -> None:
    """A field nobody thought of costs a needless miss, never a wrong hit."""
    assert fingerprint(QWEN | change) != fingerprint(QWEN)


def test_the_fingerprint_is_stable() -> None:
    """Stored verdicts are found again: order of keys and both spellings of Infinity give one fingerprint."""
    assert fingerprint(QWEN) == fingerprint(dict(reversed(QWEN.items())))
    assert fingerprint({"a": math.inf}) == fingerprint({"a": {"__float__": "Infinity"}})
    assert fingerprint({"a": math.inf}) != fingerprint({"a": -math.inf})
    assert fingerprint(QWEN) == "9c8601ebe5ed421d61f69555cac8d5ead3081dda57fbae4fcd530d48c6def006"


@pytest.mark.parametrize(
    "config",
    [
        {"text_config": {"n": 1}, "vision_config": {"n": 2}},
        {"llm_config": {"n": 1}},
        {"language_config": {"n": 1}},
        {"thinker_config": {"text_config": {"n": 1}, "audio_config": {}}, "talker_config": {"text_config": {"n": 2}}},
        {"thinker_config": {"n": 1}},
        {"n": 1, "text_config": None},
        {"n": 1},
    ],
)
def test_the_text_part_of_a_config_is_found(config: dict[str, Any]) -> None:
    """Multimodal and omni models nest the language model's part; a text model is that part itself."""
    assert text_config(config)["n"] == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@settings(max_examples=50, deadline=None)  # half a second for the first example on a busy machine
@given(st.dictionaries(st.text(), JSON))
def test_any_json_object_is_read_and_has_a_fingerprint(config: dict[str, Any]) -> None:
    """What Python's json writes is read back as it was, half surrogate pairs included."""
    read = parse_config(json.dumps(config).encode(), "config.json")
    assert read == config
    assert len(fingerprint(read)) == 64


@given(st.binary(max_size=200))
def test_any_bytes_end_in_a_config_or_a_sentence(data: bytes) -> None:
    """No file makes the reader fail in another way."""
    with suppress(TunerError):
        assert isinstance(parse_config(data, "config.json"), dict)

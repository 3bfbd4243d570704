"""The small files beside config.json: what they change of a model's identity and of what is probed."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from fake_environment import MIXTRAL, sample, serving_in
from fake_environment import SETTABLE as VERSIONS

from rules.errors import TunerError
from rules.judge import judge
from rules.report import parse_report
from rules.verdict import Word
from tuner.model.model import Model, describe, fingerprint, identify
from tuner.model.side_files import JOINT_HEAD, LEFT_OUT, MISTRAL, MODULES, QUANTISATION, READ
from tuner.probe import models as probe_models
from tuner.probe.runner import Job
from tuner.untrusted.json_text import MAX_BYTES
from tuner.verdicts.identity import Subject

CONFIG: dict[str, Any] = json.loads((MIXTRAL / "config.json").read_text())
NVFP4 = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4", "exclude_modules": ["lm_head"]}}
POOLING = [
    {"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
]


def folder_with(folder: Path, files: dict[str, Any], **config: Any) -> Path:
    """A model's folder with these files beside its config.json; a text is written as it is."""
    for name, content in {"config.json": CONFIG | config, **files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def model_with(folder: Path, files: dict[str, Any], **config: Any) -> Model:
    """What such a folder is identified as."""
    return identify(str(folder_with(folder, files, **config)))


def job_of(model: Model, tmp_path: Path) -> Job:
    """What the worker is asked to build of it."""
    return probe_models._job(0, Subject(model, serving_in(tmp_path / "serving", VERSIONS).read()))


@pytest.mark.parametrize("name", [file.name for file in READ if file.name != MISTRAL])
def test_each_side_file_is_part_of_the_fingerprint(tmp_path: Path, name: str) -> None:
    """With the file, without it and with another content are three models, whatever else they share."""
    contents: list[dict[str, Any]] = [{}, {name: {"a": 1}}, {name: {"a": 2}}]
    if name == MODULES:
        contents = [{}, {name: []}, {name: POOLING}]
    prints = {model_with(tmp_path / str(index), files).fingerprint for index, files in enumerate(contents)}
    assert len(prints) == 3


def test_without_side_files_the_fingerprint_is_that_of_the_configuration(tmp_path: Path) -> None:
    """Stored verdicts stay: files that vLLM does not read, and params.json without weights of its format, count not."""
    files = {"generation_config.json": {"top_p": 1}, "tokenizer_config.json": {}, MISTRAL: {"dim": 64}}
    files |= {"consolidated.safetensors.index.json": "{}", "notes.json": "no JSON"}
    (tmp_path / "model" / QUANTISATION).mkdir(parents=True)  # vLLM asks for a regular file
    assert model_with(tmp_path / "model", files).fingerprint == fingerprint(CONFIG)


def test_a_quantisation_of_any_name_counts(tmp_path: Path) -> None:
    """VLLM takes a quantisation's file by the end of its name."""
    assert model_with(tmp_path, {"my_quantize_config.json": {"bits": 4}}).fingerprint != fingerprint(CONFIG)


def test_a_quantisation_in_a_file_of_its_own_is_probed_as_one_in_the_configuration(tmp_path: Path) -> None:
    """The job is that of the same config.json with the content as its `quantization_config`."""
    beside = model_with(tmp_path / "beside", {QUANTISATION: NVFP4})
    inside = model_with(tmp_path / "inside", {}, quantization_config=NVFP4)
    job, same = job_of(beside, tmp_path / "a"), job_of(inside, tmp_path / "b")
    assert (job.config, job.assumptions, job.special_tokens) == (same.config, same.assumptions, same.special_tokens)
    assert {"kind": "quantization_dropped", "detail": "quantization_config"} in job.assumptions
    assert beside.config == CONFIG


def test_a_quantisation_of_the_configuration_comes_before_the_file(tmp_path: Path) -> None:
    """As vLLM has it; the file counts for the fingerprint all the same, since one quantisation reads it then too."""
    inside = {"quant_method": "fp8"}
    model = model_with(tmp_path / "both", {QUANTISATION: NVFP4}, quantization_config=inside)
    assert model.served_config["quantization_config"] == inside
    assert model.fingerprint != model_with(tmp_path / "one", {}, quantization_config=inside).fingerprint


@pytest.mark.parametrize(
    ("files", "config", "foreign"),
    [
        ({JOINT_HEAD: {"hidden_size": 64}}, {}, (JOINT_HEAD,)),
        ({MISTRAL: {"dim": 64}, "consolidated-00001-of-00002.safetensors": ""}, {}, (MISTRAL,)),
        ({MISTRAL: {"dim": 64}, "original/consolidated.safetensors": ""}, {}, (MISTRAL,)),
        ({MISTRAL: {"dim": 64}, "model.safetensors": ""}, {}, ()),
        ({"consolidated.safetensors": ""}, {}, ()),
        ({"config.4.0.0.json": CONFIG}, {"configuration_files": ["config.4.0.0.json"]}, ("config.4.0.0.json",)),
        ({}, {"configuration_files": ["../config.4.0.0.json"]}, ("configuration_files",)),
        ({QUANTISATION: NVFP4, MODULES: POOLING}, {}, ()),
    ],
)
def test_a_file_that_may_choose_another_class_is_named(
    tmp_path: Path, files: dict[str, Any], config: dict[str, Any], foreign: tuple[str, ...]
) -> None:
    """What the probe cannot build as vLLM would makes the verdict inconclusive, with the file in its reason."""
    model = model_with(tmp_path / "model", files, **config)
    assert model.side.foreign == foreign
    kinds = [one for one in job_of(model, tmp_path).assumptions if one["kind"] == "side_file"]
    assert [one["detail"] for one in kinds] == list(foreign)
    report = sample(MIXTRAL, "flag-live")
    verdict = judge(parse_report(report | {"assumptions": [*report["assumptions"], *kinds]}))
    assert verdict.word is (Word.INCONCLUSIVE if foreign else Word.UNIFORM)
    assert [each.fields["file"] for each in verdict.reasons if each.code == "side_file"] == list(foreign)


def test_weights_are_looked_for_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with too many entries counts as one that has them: what is not known is not safe."""
    monkeypatch.setattr("tuner.model.side_files._MAX_ENTRIES", 1)
    assert model_with(tmp_path, {MISTRAL: {"dim": 64}}).side.foreign == (MISTRAL,)


def test_an_embedding_model_is_probed_as_one(tmp_path: Path) -> None:
    """The worker gets modules.json and what it names, by which vLLM wraps the class; no other file."""
    files = {MODULES: POOLING, "1_Pooling/config.json": {"pooling_mode_lasttoken": True}, QUANTISATION: NVFP4}
    model = model_with(tmp_path / "model", files)
    assert job_of(model, tmp_path).side_files == ("1_Pooling/config.json", MODULES)
    (tmp_path / "model/1_Pooling/config.json").write_text("{}")
    assert identify(model.name).fingerprint != model.fingerprint


@pytest.mark.parametrize("path", ["..", "/etc", "a/../../b", "a\nb", "x" * 300, 7, None])
def test_modules_lead_out_of_no_folder(tmp_path: Path, path: object) -> None:
    """Only files below the folder are read; the others are named by nobody."""
    model = model_with(tmp_path, {MODULES: [{"path": path}, {"path": "sub"}, "text"], "sub/config.json": {}})
    assert set(model.side.digests) == {MODULES, "sub/config.json"}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (QUANTISATION, "{", "is not JSON"),
        (QUANTISATION, "[]", "is not a JSON object"),
        (QUANTISATION, '{"a": ' + "[" * 200 + "]" * 200 + "}", "nested"),
        (QUANTISATION, " " * (MAX_BYTES + 1), "larger than 16 MiB"),
        (MODULES, "[", "is not JSON"),
        ("quantize_config.json", " " * (MAX_BYTES + 1), "larger than 16 MiB"),
    ],
)
def test_an_unusable_side_file_is_an_error_that_names_it(tmp_path: Path, name: str, content: str, words: str) -> None:
    """VLLM would stop at it, too; what is too large is not read to its end."""
    with pytest.raises(TunerError, match=words) as caught:
        model_with(tmp_path, {name: content})
    assert str(tmp_path / name) in caught.value.message
    assert caught.value.hint


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """It counts as no file, as for vLLM."""
    folder = folder_with(tmp_path, {})
    os.mkfifo(folder / QUANTISATION)
    assert identify(str(folder)).fingerprint == fingerprint(CONFIG)


def test_every_file_of_the_list_has_its_reason_and_source() -> None:
    """A file is read or left out, not both, and the releases are named where it is read."""
    names = [file.name for file in READ]
    assert len(set(names)) == len(names)
    assert not set(names) & set(LEFT_OUT)
    assert all(file.decides and "0." in file.source and ".py" in file.source for file in READ)


def test_a_configuration_alone_is_a_model_without_side_files(tmp_path: Path) -> None:
    """Who describes a model by its configuration reads no folder."""
    folder_with(tmp_path, {QUANTISATION: NVFP4})
    assert describe("m", tmp_path, CONFIG).fingerprint == fingerprint(CONFIG)

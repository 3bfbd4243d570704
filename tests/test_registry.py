"""Which registered architectures become candidates, and where their configurations come from; no vLLM is needed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rules.errors import TunerError
from tuner.errors import ExitCode, exit_code_of
from tuner.model.shrink import EXPERT_COUNTS
from tuner.probe.candidates import MAX_DEPTH, Candidate, candidates

MOE = {"num_hidden_layers": 4, "num_local_experts": 8, "time_step_limit": [0.0, float("inf")]}
DENSE = {"num_hidden_layers": 4, "num_experts": None}
NO_CLASS = "neither transformers nor this vLLM has a config class for it"
BESIDE = "runs only beside its target"
STANDS = "stands for any model of transformers; no config.json names it"


def entry(name: str, moe: str, config: dict[str, Any] | None = None, **more: str) -> dict[str, Any]:
    """One architecture as the worker lists it."""
    made = None if config is None else {**config, "architectures": [name]}
    source = "" if config is None else f"transformers {name}Config"
    empty = {"category": "text generation", "module": "m", "class": name, "error": "", "reason": ""}
    return {**empty, "architecture": name, "moe": moe, "config": made, "source": source, **more}


def listing(*entries: dict[str, Any]) -> dict[str, Any]:
    """A listing as the worker writes it, with real names from vLLM 0.32.0 unless others are given."""
    known = (
        entry("LlamaForCausalLM", "none", reason="it has no MoE layer"),
        entry("MixtralForCausalLM", "static", MOE),
        entry("Qwen3_5ForCausalLM", "static", DENSE),
        entry("SarvamMoEForCausalLM", "static", reason=NO_CLASS),
        entry("KimiVLForConditionalGeneration", "literal", {"text_config": MOE}, category="multimodal"),
        entry("LlavaForConditionalGeneration", "config", {"text_config": DENSE}, category="multimodal"),
        entry("Step3VLForConditionalGeneration", "config", {"text_config": MOE}, category="multimodal"),
        entry("Dots3NoteForCausalLM", "static", MOE, category="multimodal", error="ImportError: no flash"),
        entry("DeepSeekMTPModel", "static", category="speculative decoding", reason=BESIDE),
        entry("TransformersMoEForCausalLM", "static", category="transformers backend", reason=STANDS),
        entry("Zoo", "static", MOE, category="plugin"),
    )
    return {"result": "ok", "environment": {"vllm": "0.32.0+cpu"}, "seconds": 1.0, "architectures": entries or known}


@pytest.fixture
def given(tmp_path: Path) -> Callable[..., Path]:
    """Writes a `config.json` of the user's and gives the folder of all of them."""

    def write(below: str, architecture: object, **fields: object) -> Path:
        folder = tmp_path / "given" / below
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps({"architectures": [architecture], **fields}))
        return tmp_path / "given"

    return write


def chosen(
    tmp_path: Path, *entries: dict[str, Any], configs: Path | None = None, **selection: Any
) -> dict[str, Candidate]:
    """The candidates by architecture; there must be one for each."""
    selection = {"text_only": False, "match": None, **selection}
    listed = candidates(listing(*entries), configs, tmp_path / "home", **selection)
    assert len({one.architecture for one in listed}) == len(listed)
    return {one.architecture: one for one in listed}


# ---- what is a candidate, and what it lacks


def test_every_moe_architecture_is_a_candidate(tmp_path: Path) -> None:
    """In the order of the registry, without those that have no MoE layer."""
    names = [one["architecture"] for one in listing()["architectures"]]
    assert list(chosen(tmp_path)) == names[1:]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("SarvamMoEForCausalLM", f"{NO_CLASS}; give a config with --configs"),
        (
            "Qwen3_5ForCausalLM",
            "the defaults of transformers Qwen3_5ForCausalLMConfig declare no experts; give a config with --configs",
        ),
        ("LlavaForConditionalGeneration", "its language model is chosen by the config; give one with --configs"),
        ("Dots3NoteForCausalLM", "its class cannot be imported in this environment: ImportError: no flash"),
        ("DeepSeekMTPModel", BESIDE),
        ("TransformersMoEForCausalLM", STANDS),
    ],
)
def test_a_candidate_without_a_config_says_why(tmp_path: Path, name: str, said: str) -> None:
    """There is no folder and no source, and a sentence that tells what to do, if anything can be done."""
    one = chosen(tmp_path)[name]
    assert (one.folder, one.source, one.reason) == (None, "", said)


@pytest.mark.parametrize(
    "name", ["MixtralForCausalLM", "KimiVLForConditionalGeneration", "Step3VLForConditionalGeneration", "Zoo"]
)
def test_made_configs_are_model_folders(tmp_path: Path, name: str) -> None:
    """A config with experts lies in a folder of its release and architecture, as it was made, infinity included."""
    one = chosen(tmp_path)[name]
    folder = tmp_path / "home" / "configs" / "0.32.0+cpu" / name
    assert (one.folder, one.source, one.reason) == (str(folder), f"transformers {name}Config", "")
    made = {row["architecture"]: row["config"] for row in listing()["architectures"]}
    assert json.loads((folder / "config.json").read_text()) == made[name]
    assert [path.name for path in folder.iterdir()] == ["config.json"]


@pytest.mark.parametrize("key", EXPERT_COUNTS)
def test_any_name_for_the_number_of_experts_counts(tmp_path: Path, key: str) -> None:
    """A config declares experts by any of the names that shrinking knows."""
    assert chosen(tmp_path, entry("A", "static", {"num_hidden_layers": 1, key: 8}))["A"].folder


def test_only_what_changed_is_written(tmp_path: Path) -> None:
    """A second run leaves the file alone; another config, or a damaged file, is replaced."""
    file = Path(chosen(tmp_path, entry("A", "static", MOE))["A"].folder or "") / "config.json"
    before = file.stat()
    chosen(tmp_path, entry("A", "static", MOE))
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    chosen(tmp_path, entry("A", "static", {**MOE, "vocab_size": 7}))
    assert json.loads(file.read_text())["vocab_size"] == 7
    file.write_bytes(b"\xff")
    chosen(tmp_path, entry("A", "static", MOE))
    assert json.loads(file.read_text())["num_local_experts"] == 8


def test_a_name_is_no_path(tmp_path: Path) -> None:
    """Whatever a plugin calls its architecture, the config stays in the folder of its release."""
    one = chosen(tmp_path, entry("../../x/Y", "static", MOE))["../../x/Y"]
    assert Path(one.folder or "").parent == tmp_path / "home" / "configs" / "0.32.0+cpu"


def test_a_home_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """A failure to write is the store's, and names the file."""
    (tmp_path / "home").write_text("")
    with pytest.raises(TunerError, match=r"A/config\.json cannot be written") as failure:
        chosen(tmp_path, entry("A", "static", MOE))
    assert failure.value.kind == "store"


# ---- which are asked for


def test_text_only_keeps_one_category(tmp_path: Path) -> None:
    """What vLLM files elsewhere is left out, and nothing is written for it."""
    found = chosen(tmp_path, text_only=True)
    assert {one.category for one in found.values()} == {"text generation"}
    written = {path.parent.name for path in (tmp_path / "home").rglob("config.json")}
    assert written == {"MixtralForCausalLM"}


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*VL*", ["KimiVLForConditionalGeneration", "Step3VLForConditionalGeneration"]),
        ("mixtral*", []),
        ("[MZ]*", ["MixtralForCausalLM", "Zoo"]),
        ("Llama*", []),
    ],
)
def test_a_pattern_selects_names(tmp_path: Path, pattern: str, names: list[str]) -> None:
    """As in a shell, case included; a pattern makes no dense model a candidate."""
    assert list(chosen(tmp_path, match=pattern)) == names


# ---- the user's configurations


def test_the_users_config_wins(tmp_path: Path, given: Callable[..., Path]) -> None:
    """A made one is neither used nor written."""
    configs = given("mine", "MixtralForCausalLM", **MOE)
    one = chosen(tmp_path, match="Mixtral*", configs=configs)["MixtralForCausalLM"]
    assert (one.folder, one.source, one.reason) == (str(configs / "mine"), "folder", "")
    assert not (tmp_path / "home").exists()


def test_every_config_of_the_users_is_a_candidate(tmp_path: Path, given: Callable[..., Path]) -> None:
    """Several for one architecture are one candidate each, by path; the folder itself counts."""
    given("b/c", "Zoo", **MOE)
    given("a", "Zoo", **MOE)
    configs = given("", "Zoo", **MOE)
    listed = candidates(listing(), configs, tmp_path / "home", text_only=False, match="Zoo")
    assert [one.folder for one in listed] == [str(configs), str(configs / "a"), str(configs / "b" / "c")]


@pytest.mark.parametrize(
    ("name", "fields", "taken"),
    [
        ("SarvamMoEForCausalLM", MOE, True),
        ("Qwen3_5ForCausalLM", DENSE, True),
        ("LlavaForConditionalGeneration", {"text_config": MOE}, True),
        ("LlavaForConditionalGeneration", {"text_config": DENSE}, False),
        ("LlamaForCausalLM", MOE, True),
        ("Dots3NoteForCausalLM", MOE, True),
        ("DeepSeekMTPModel", MOE, False),
    ],
)
def test_the_users_config_helps_where_ours_cannot(
    tmp_path: Path, given: Callable[..., Path], name: str, fields: dict[str, Any], *, taken: bool
) -> None:
    """Where the class decides, any config is taken; where the config does, one with experts; for a draft, none."""
    found = chosen(tmp_path, configs=given("mine", name, **fields))
    assert (found[name].source == "folder") == taken
    assert (found[name].folder is not None) == taken


def test_a_dense_model_of_the_users_is_left_out(tmp_path: Path, given: Callable[..., Path]) -> None:
    """So is an architecture that this vLLM does not register."""
    given("unknown", "NoSuchMoeForCausalLM", **MOE)
    found = chosen(tmp_path, configs=given("llama", "LlamaForCausalLM", **DENSE))
    assert not {"LlamaForCausalLM", "NoSuchMoeForCausalLM"} & set(found)


def test_other_files_of_that_name_are_passed_over(tmp_path: Path, given: Callable[..., Path]) -> None:
    """A `config.json` that is damaged, or of something else than a model, does not stop the others."""
    (given("damaged", "Zoo") / "damaged" / "config.json").write_text("{")
    (given("pooling", "Zoo") / "pooling" / "config.json").write_text('{"architectures": []}')
    given("number", 7)
    configs = given("good", "Zoo", **MOE)
    assert chosen(tmp_path, configs=configs)["Zoo"].folder == str(configs / "good")


def test_the_search_has_bounds(tmp_path: Path, given: Callable[..., Path]) -> None:
    """Neither very deep folders nor links that lead out are searched; a link that stays inside is followed."""
    given("/".join("x" * (MAX_DEPTH + 1)), "MixtralForCausalLM", **MOE)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "config.json").write_text(json.dumps({"architectures": ["MixtralForCausalLM"], **MOE}))
    configs = given("blobs", "Zoo", **MOE)
    (configs / "folder").symlink_to(outside, target_is_directory=True)
    (configs / "file").mkdir()
    (configs / "file" / "config.json").symlink_to(outside / "config.json")
    (configs / "snapshot").mkdir()
    (configs / "snapshot" / "config.json").symlink_to(configs / "blobs" / "config.json")
    listed = candidates(listing(), configs, tmp_path / "home", text_only=False, match=None)
    assert [one.folder for one in listed if one.source == "folder"] == [
        str(configs / "blobs"),
        str(configs / "snapshot"),
    ]


def test_a_missing_folder_is_faulty_usage(tmp_path: Path) -> None:
    """It is told before anything is written."""
    with pytest.raises(TunerError, match="There is no folder") as failure:
        chosen(tmp_path, configs=tmp_path / "nowhere")
    assert exit_code_of(failure.value) is ExitCode.USAGE
    assert not (tmp_path / "home").exists()

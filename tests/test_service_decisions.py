"""`POST /v1/decisions`: the answers of `tuner plan --json`, without a run and without a fetch."""

import json
from pathlib import Path
from typing import Any

import pytest
from fake_environment import INERT, LLAMA, MIXTRAL, MODELS, QWEN, Serving, serving_in, tuner
from service_bench import Bench, Setting, bench, launch_request, named_request

from tuner.model.side_files import read_side_files

HOME = "/home/somebody"


@pytest.fixture
def service(serving: Serving, store: Path) -> Bench:
    """A service that knows two models, and the configs of all examples by name."""
    serving.store_of(store, MIXTRAL, LLAMA)
    return bench(Setting(store, configs=MODELS))


def planned(serving: Serving, store: Path, *args: object) -> Any:
    """What `tuner plan --json` prints for the same environment, known from its document alone."""
    saved = serving.folder / "env.json"
    saved.write_text(tuner("env", "--python", serving.python, "--json", code=0).out, encoding="utf-8")
    model, *rest = args
    options = [word for word in rest if isinstance(word, list)]
    words = [word for word in rest if not isinstance(word, list)]
    where = ("--environment", saved, "--store", store, "--json")
    env = {"HOME": HOME, "XDG_CACHE_HOME": "", "TUNER_CACHE_ROOT": ""}
    document = tuner("plan", model, *where, *(options[0] if options else []), "--", *words, env=env).document
    return json.loads(json.dumps(document).replace(f"--store {store} ", ""))  # the service has a store of its own


LAUNCHES: dict[str, list[str]] = {
    "plain": [],
    "two ranks": ["--tensor-parallel-size", "2"],
    "eager": ["--enforce-eager"],
    "a value of the user's": ["-cc.fast_moe_cold_start=true"],
    "settings": ["--compilation-config", '{"cudagraph_mode": "NONE"}'],
    "overrides": ["--hf-overrides", '{"num_experts": 4}'],
    "a draft": ["--speculative-config", '{"method": "mtp", "num_speculative_tokens": 1}'],
}


@pytest.mark.parametrize(
    ("launch", "model"),
    [*((launch, MIXTRAL) for launch in LAUNCHES), ("plain", LLAMA), ("plain", QWEN), ("a value of the user's", QWEN)],
)
def test_an_answer_is_that_of_a_plan(launch: str, model: Path, service: Bench, serving: Serving, store: Path) -> None:
    """For the same model, environment, arguments and variables, with and without a verdict and a proof."""
    request = launch_request(serving, *LAUNCHES[launch], model=model, variables={"HOME": HOME})
    answer = service.decision(request)
    plan = planned(serving, store, model, *LAUNCHES[launch])
    if plan["proof"] is None:
        assert answer.pop("differs")
        assert answer.pop("proof") == "missing"
        plan.pop("proof")
    assert answer == plan


def test_an_option_of_a_plan_means_the_same(service: Bench, serving: Serving, store: Path) -> None:
    """The refusals and the cache folder are those of `tuner plan` with the same options."""
    request = launch_request(serving, model=QWEN, variables={"HOME": HOME})
    options = {"fail_on_unknown": True, "enforce": True, "cache_root": "/caches", "cache_dir_in": "config"}
    answer = service.decision({**request, **options})
    words = ["--fail-on-unknown", "--enforce", "--cache-root", "/caches", "--cache-dir-in", "config"]
    plan = planned(serving, store, QWEN, words)
    assert answer["launch"] == plan["launch"]
    assert answer["refusal"] == plan["refusal"]


def test_a_proved_launch_is_decided_as_proved(service: Bench, serving: Serving) -> None:
    """The flag is on, the proof is in the answer, and nothing differs."""
    answer = service.decision(launch_request(serving))
    assert answer["launch"]["compilation_config"] == {"fast_moe_cold_start": True}
    assert answer["proof"]["word"] == "proved"
    assert "differs" not in answer


def test_a_launch_without_a_proof_is_safe_and_says_what_differs(service: Bench, serving: Serving) -> None:
    """The flag is off, and the launch that was not proved is named."""
    answer = service.decision(launch_request(serving, "--tensor-parallel-size", "2"))
    assert answer["launch"]["compilation_config"] == {"fast_moe_cold_start": False}
    assert answer["proof"] == "missing"
    assert [why["code"] for why in answer["differs"]] == ["no_proof_of_launch"]
    assert "--tensor-parallel-size 2" in answer["differs"][0]["text"]


def test_a_model_without_a_verdict_is_safe_and_says_what_differs(service: Bench, tmp_path: Path) -> None:
    """Another vLLM than that of the stored verdict is named as what differs, and counted."""
    other = serving_in(tmp_path / "other", INERT)
    answer = service.decision(launch_request(other))
    assert answer["verdict"] is None
    assert answer["launch"]["compilation_config"] == {}
    assert answer["proof"] == "missing"
    assert answer["differs"][0]["fields"]["factors"] == "torch, vllm"
    metrics = service.client.get("/metrics").text
    assert 'tuner_misses_total{factor="vllm"} 1.0' in metrics
    assert 'tuner_decisions_total{outcome="no_verdict"} 1.0' in metrics


def test_a_model_may_be_asked_for_by_name(service: Bench, serving: Serving) -> None:
    """Its config.json in the service's folder is the one that counts, as if the client had sent it."""
    name = "mistralai/Mixtral-8x7B-v0.1"
    by_name = service.decision(named_request(serving, [name]))
    sent = launch_request(serving)
    described = service.decision({**sent, "arguments": [name]})
    assert by_name == described
    assert by_name["verdict"] == "uniform"


@pytest.mark.parametrize("name", ["somebody/unknown", "../models", "/etc", ".", "LiquidAI--LFM2/..", "x\0"])
def test_only_an_unknown_model_is_not_there(name: str, service: Bench, serving: Serving) -> None:
    """404, whether the name could be a path or not: no file outside of the folder is looked at."""
    answer = service.decision(named_request(serving, [name]), status=404)
    assert answer["error"]["kind"] == "model"
    assert "config.json" in answer["error"]["hint"]


def test_a_revision_is_not_guessed(service: Bench, serving: Serving) -> None:
    """The folder holds no revisions, so a launch of one is not decided by name."""
    request = named_request(serving, ["mistralai/Mixtral-8x7B-v0.1", "--revision", "abc"])
    assert service.decision(request, status=404)["error"]["message"].endswith("at abc.")


def test_without_a_folder_no_name_is_known(serving: Serving, store: Path) -> None:
    """A service that was given no configs knows no names."""
    service = bench(Setting(serving.store_of(store, MIXTRAL)))
    service.decision(named_request(serving, ["mistralai/Mixtral-8x7B-v0.1"]), status=404)


def test_side_files_are_part_of_the_model(service: Bench, serving: Serving, tmp_path: Path) -> None:
    """A model with a file of quantisation beside its config is another model than the one that is stored."""
    folder = tmp_path / "quantised"
    folder.mkdir()
    (folder / "config.json").write_bytes((MIXTRAL / "config.json").read_bytes())
    (folder / "hf_quant_config.json").write_text('{"quantization": {"quant_algo": "FP8"}}', encoding="utf-8")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    digests = dict(read_side_files(folder, config).digests)
    answer = service.decision(named_request(serving, ["m"], model={"config": config}))
    other = named_request(serving, ["m"], model={"config": config, "side_files": digests})
    assert answer["verdict"] == "uniform"
    assert service.decision(other)["verdict"] is None


def test_code_that_the_service_has_not_seen_is_not_vouched_for(service: Bench, serving: Serving) -> None:
    """With --trust-remote-code a described model has no verdict: its code lies with the client."""
    answer = service.decision(launch_request(serving, "--trust-remote-code"))
    assert answer["verdict"] is None
    assert "--trust-remote-code" in answer["differs"][0]["text"]


def test_a_draft_is_looked_up_among_the_services_models(service: Bench, serving: Serving, tmp_path: Path) -> None:
    """A draft that is stored as having no MoE layer is none; a path on the client is not read on the service."""

    def flags(draft: str) -> object:
        words = ["--speculative-config", json.dumps({"model": draft, "num_speculative_tokens": 1})]
        return service.decision(launch_request(serving, *words))["reasons"]

    known = flags("meta-llama/Meta-Llama-3.1-8B")
    assert known != flags("meta-llama/unknown")
    assert flags(str(LLAMA)) == flags(str(tmp_path))


def test_a_config_file_is_not_read(service: Bench, serving: Serving, tmp_path: Path) -> None:
    """`--config` names a file of the client's, so the request is refused, whether the file exists here or not."""
    file = tmp_path / "serve.yaml"
    file.write_text("port: 1\n", encoding="utf-8")
    answer = service.decision(launch_request(serving, "--config", str(file)), status=422)
    assert answer["error"]["kind"] == "arguments"
    assert "as arguments" in answer["error"]["hint"]


def test_arguments_that_vllm_refuses_are_refused(service: Bench, serving: Serving) -> None:
    """As by `tuner plan`."""
    answer = service.decision(launch_request(serving, "-cc.no_such_key=1"), status=422)
    assert "no_such_key" in answer["error"]["message"]


BAD: dict[str, tuple[bytes, int]] = {
    "nothing": (b"", 400),
    "no JSON": (b"{", 400),
    "no UTF-8": (b'{"a": "\xff"}', 400),
    "a list": (b"[]", 400),
    "deep": (b'{"a":' * 200 + b"1" + b"}" * 200, 400),
    "many brackets": (b'{"a": [' + b"[]," * 200_000 + b"[]]}", 400),
    "two values of a field": (b'{"arguments": ["a"], "arguments": ["b"]}', 400),
    "no fields": (b"{}", 422),
    "an unknown field": (b'{"environment": {}, "arguments": ["m"], "x": 1}', 422),
    "no arguments": (b'{"environment": {}, "arguments": []}', 422),
    "a number as argument": (b'{"environment": {}, "arguments": [1]}', 422),
    "no environment": (b'{"environment": {}, "arguments": ["m"]}', 422),
    "an environment of numbers": (b'{"environment": {"environment": {"python": 1}}, "arguments": ["m"]}', 422),
    "a config without a class": (b'{"environment": {}, "arguments": ["m"], "model": {"config": {}}}', 422),
    "a side file without a digest": (
        b'{"environment": {}, "arguments": ["m"], "model": {"config": {}, "side_files": {"a": "b"}}}',
        422,
    ),
}


@pytest.mark.parametrize("body", BAD)
def test_a_bad_body_is_the_clients_fault(body: str, service: Bench) -> None:
    """It gets a sentence and a status below 500, and no traceback."""
    content, status = BAD[body]
    answer = service.client.post("/v1/decisions", content=content)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["message"].endswith(".")
    assert "Traceback" not in answer.text


@pytest.mark.parametrize("value", ["\ud800", "\0", "x" * 900, "--", "-", "--model", "--config", "\u2028"])
def test_an_odd_argument_is_no_fault_of_the_service(value: str, service: Bench, serving: Serving) -> None:
    """Whatever stands in the arguments, the model's name and the variables, the service does not break."""
    for request in (
        launch_request(serving, value),
        {**launch_request(serving), "arguments": [value]},
        {**launch_request(serving), "variables": {value: value, "VLLM_USE_MODELSCOPE": "1"}},
    ):
        content = json.dumps(request).encode()
        assert service.client.post("/v1/decisions", content=content).status_code in {200, 404, 422}


def test_whether_a_path_exists_here_cannot_be_found_out(service: Bench, serving: Serving) -> None:
    """A variable that makes vLLM ask another hub means the same for a folder that the service has."""
    request = launch_request(serving, variables={"VLLM_USE_MODELSCOPE": "True"})
    answers = [service.decision({**request, "arguments": [name]}) for name in ("/etc", "/not-there")]
    assert answers[0]["reasons"] == answers[1]["reasons"]
    assert answers[0]["launch"]["compilation_config"] == {"fast_moe_cold_start": False}


def test_the_same_question_has_the_same_etag(service: Bench, serving: Serving) -> None:
    """And another launch another one."""
    same = [service.client.post("/v1/decisions", json=launch_request(serving)).headers["etag"] for _ in range(2)]
    other = service.client.post("/v1/decisions", json=launch_request(serving, "--enforce-eager")).headers["etag"]
    assert same[0] == same[1] != other


def test_an_answer_is_a_decision_file(service: Bench, serving: Serving, tmp_path: Path) -> None:
    """`tuner serve --decision` takes it, with a proof and without one."""
    for args in ([], ["--tensor-parallel-size", "2"]):
        file = tmp_path / "decision.json"
        file.write_text(json.dumps(service.decision(launch_request(serving, *args))), encoding="utf-8")
        done = tuner("serve", "--python", serving.python, "--decision", file, "--dry-run", MIXTRAL, *args, code=0)
        assert "fast_moe_cold_start" in done.out

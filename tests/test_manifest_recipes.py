"""Launches whose options stand as entries of a mapping, in Dynamo's objects, and in this tool's own exports."""

from pathlib import Path

import pytest
from test_manifest_documents import IMAGE, MODEL, appended, only, require_places

from tuner.arguments.serve_arguments import parse
from tuner.checks.examine import read_arguments
from tuner.exports.formats import Format
from tuner.manifests.find import launches_in

GOLDEN = Path(__file__).parent / "golden"
SRT_SLURM = """name: bench
model: {path: dsr1, container: vllm/vllm-openai:v0.19.1, precision: fp8}
environment: {A: all}
backend:
  type: vllm
  connector: null
  prefill_environment: {A: prefill, B: "1"}
  vllm_config:
    prefill: &engine
      served-model-name: name
      tensor_parallel_size: 8
      enable-expert-parallel: true
      async-scheduling: false
      connector: nixl
      gpu-memory-utilization: 0.90
      compilation-config: '{"cudagraph_mode": "FULL"}'
    decode:
      <<: *engine
      compilation-config: {cudagraph_mode: FULL, cudagraph_capture_sizes: [1, 2], level: null, fast: true}
      cudagraph-capture-sizes: [1, 2]
"""


def test_recipes_of_srt_slurm() -> None:
    """One launch a role, with the recipe's model, and options as srt-slurm makes them."""
    prefill, decode = launches_in("recipe.yaml", SRT_SLURM)
    common = ("--served-model-name", "name", "--tensor-parallel-size", "8", "--enable-expert-parallel")
    memory = ("--gpu-memory-utilization", "0.90")
    config = ("--compilation-config", '{"cudagraph_mode": "FULL"}')
    assert prefill.args == ("--model", "dsr1", *common, *memory, *config)
    typed = '{"cudagraph_mode": "FULL", "cudagraph_capture_sizes": [1, 2], "level": null, "fast": true}'
    assert decode.args == (
        *("--model", "dsr1", "--compilation-config", typed, "--cudagraph-capture-sizes", "1", "2"),
        *(*common, *memory),
    )
    assert (prefill.name, prefill.image, prefill.image_line) == ("bench/prefill", IMAGE, 2)
    assert (prefill.env, decode.env) == ({"A": "prefill", "B": "1"}, {"A": "all"})
    assert [word.line for word in prefill.words[2:6]] == [10, 10, 11, 11]
    assert {word.owner for word in (*prefill.words, *decode.words)} == {None}


def test_recipes_of_srt_slurm_in_their_later_form() -> None:
    """Roles hold the options; those of another engine are not read."""
    text = "engine: {type: vllm}\nmodel: {path: m}\nroles:\n  agg: {args: {max-model-len: 1}, env: {A: 1}}\n  x: {}\n"
    launch = only("recipe.yaml", text)
    assert (launch.args, launch.env) == (("--model", "m", "--max-model-len", "1"), {"A": "1"})
    assert launches_in("recipe.yaml", text.replace("vllm", "sglang")) == []
    assert launches_in("recipe.yaml", SRT_SLURM.replace("vllm_config", "sglang_config")) == []


RAY = """applications:
- name: llm
  import_path: ray.serve.llm:build_openai_app
  args:
    llm_configs:
    - model_loading_config: {model_id: short, model_source: org/model}
      accelerator_type: H100
      runtime_env: {env_vars: {VLLM_USE_V1: "1"}}
      engine_kwargs:
        tensor_parallel_size: 2
        enable_prefix_caching: false
        trust_remote_code: true
        compilation_config: {mode: 3}
    - model_loading_config: {model_id: org/other}
    - model_loading_config: {model_id: x, model_source: {bucket_uri: s3://b/m}}
    - {model_loading_config: {model_id: no}, llm_engine: SGLang}
"""
RAY_ARGS = [
    (
        *("--model", "org/model", "--tensor-parallel-size", "2", "--no-enable-prefix-caching", "--trust-remote-code"),
        *("--compilation-config", '{"mode": 3}'),
    ),
    ("--model", "org/other"),
    ("--model", "s3://b/m"),
]


@pytest.mark.parametrize("wrapped", [False, True])
def test_configurations_of_ray_serve(wrapped: bool) -> None:
    """In a file of their own, and as the text in a RayService."""
    head = "apiVersion: ray.io/v1\nkind: RayService\nspec:\n  serveConfigV2: |\n"
    text = head + "".join(f"    {line}\n" for line in RAY.splitlines()) if wrapped else RAY
    launches = launches_in("serve.yaml", text)
    assert [launch.args for launch in launches] == RAY_ARGS
    assert (launches[0].name, launches[0].env) == ("short", {"VLLM_USE_V1": "1"})
    assert launches[0].words[2].line == text[: text.index("tensor_parallel_size")].count("\n") + 1


DYNAMO = f"""apiVersion: nvidia.com/v1alpha1
kind: DynamoGraphDeployment
metadata: {{name: d}}
spec:
  envs: [{{name: A, value: graph}}, {{name: B, value: graph}}]
  services:
    Frontend:
      extraPodSpec: {{mainContainer: {{image: x, command: [python3, -m, dynamo.frontend]}}}}
    Worker:
      envs: [{{name: B, value: service}}]
      extraPodSpec:
        mainContainer:
          image: nvcr.io/nvidia/ai-dynamo/vllm-runtime:1.2.0
          command: [python3, -m, dynamo.vllm]
          args: [--model, {MODEL}, --port, $(A)]
"""


def test_services_of_dynamo() -> None:
    """A worker takes the arguments of vLLM's engine, with the variables of all levels."""
    launch = only("dgd.yaml", DYNAMO)
    assert (launch.name, launch.shape) == ("d/Worker", "DynamoGraphDeployment")
    assert (launch.args, launch.env) == (("--model", MODEL, "--port", "graph"), {"A": "graph", "B": "service"})
    appended("dgd.yaml", DYNAMO.replace("$(A)", "'1'"))
    scripted = DYNAMO.replace("[python3, -m, dynamo.vllm]", "[sh, -c]").replace(
        f"[--model, {MODEL}, --port, $(A)]", f"['python3 -m dynamo.vllm --model {MODEL}']"
    )
    assert only("dgd.yaml", scripted).args == ("--model", MODEL)


@pytest.mark.parametrize(
    "text",
    [
        "model: m\ncompilation-config: '{\"mode\": 3}'\n",
        "model: m\ntensor_parallel_size: 2\n",
        "model: m\nport: 1\nserved-model-name: n\n",
    ],
)
def test_a_configuration_file_by_itself(text: str) -> None:
    """It is recognised by an option of vLLM's own beside the model."""
    launch = only("serve.yaml", text)
    arguments, _ = read_arguments("serve.yaml", launch)
    expected = parse(["--config", "serve.yaml"], lambda _: text)
    assert (arguments.model, arguments.compilation_config) == ("m", expected.compilation_config)
    assert arguments.serving == expected.serving


@pytest.mark.parametrize(
    "text",
    [
        "model: m\n",
        "model: m\nport: 1\nquantization: fp8\n",
        "model: {name: m}\nmax-model-len: 1\n",
        "max-model-len: 1\n",
        "model: m\nmax-model-len: 1\nsome key: 1\n",
        "apiVersion: v1\nmodel: m\nmax-model-len: 1\n",
    ],
)
def test_mappings_that_are_no_configuration_of_vllm(text: str) -> None:
    """A model alone says nothing, and neither do options that many programs have."""
    assert launches_in("x.yaml", text) == []


def test_a_configuration_file_that_a_pod_names_is_no_launch_of_its_own() -> None:
    """The pod is the launch; without it, the file is one."""
    config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata:\n  s.yaml: |\n    model: m\n    dtype: half\n"
    config += "    max-model-len: 1\n"
    pod = "---\napiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - command: [vllm, serve, --config, /c/s.yaml]\n"
    pod += "    volumeMounts: [{name: v, mountPath: /c}]\n  volumes: [{name: v, configMap: {name: c}}]\n"
    assert only("x.yaml", config + pod).shape == "Pod"
    assert only("x.yaml", config).args == ("--model", "m", "--dtype", "half", "--max-model-len", "1")


def test_options_that_grow_by_references_end() -> None:
    """A value that refers to itself ten times ten times … is not read."""
    levels = "".join(f"  l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10)}]\n" for i in range(1, 9))
    config = "backend: {vllm_config: {decode: {hf-overrides: *l8}}}\n"
    text = f"x:\n  l0: &l0 [1]\n{levels}model: {{path: m}}\n{config}"
    launch = only("recipe.yaml", text)
    assert launch.words[-1].unknown


EXPECTED = ("mistralai/Mixtral-8x7B-v0.1", {"fast_moe_cold_start": True})
NAMES: dict[str, str] = {Format.DOCKERFILE: "Dockerfile", Format.ENV: "launch.sh", Format.VLLM_YAML: "serve.yaml"}


@pytest.mark.parametrize("file", sorted(GOLDEN.iterdir()), ids=lambda file: file.stem)
def test_every_export_is_read_again(file: Path) -> None:
    """With the model and the config that were exported, and all arguments where the format has them."""
    text = file.read_text(encoding="utf-8")
    name = NAMES.get(file.stem, "manifest.yaml")
    launches = launches_in(name, text)
    require_places(text, launches)
    assert len(launches) == (2 if file.stem == Format.LEADERWORKERSET else 1)
    for launch in launches:
        arguments, hidden = read_arguments(name, launch)
        assert (arguments.model, arguments.compilation_config, hidden, launch.hidden) == (*EXPECTED, "", "")
        if file.stem not in {Format.VLLM_YAML, Format.CONFIGMAP}:
            assert (arguments.serving.tensor_parallel_size, arguments.serving.pipeline_parallel_size) == (4, 2)
            assert "it's $HOME" in launch.args

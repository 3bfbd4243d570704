"""The launch in each shape of manifest: its arguments, its image, its variables, and the line."""

from pathlib import Path

import pytest

from tuner.manifests.files import is_manifest
from tuner.manifests.find import launches_in
from tuner.manifests.launch import ManifestLaunch, Volume
from tuner.manifests.yaml.documents import read_documents
from tuner.manifests.yaml.source import Mapping, Sequence, text_of

SHELL = r"""#!/bin/bash
export VLLM_CACHE_ROOT=/cache
MODEL="Qwen/Qwen3-30B-A3B"
LIST=(--foo 1)
exec vllm serve "$MODEL" --tensor-parallel-size $TP \
   -cc.mode=3 2>&1 | tee log
echo "vllm serve quoted"
nohup numactl --cpunodebind=0 python3 -u -m vllm.entrypoints.openai.api_server --model module > out.log 2>&1 &
docker run --rm -e VLLM_USE_V1=1 -v ~/.cache:/cache -p 80:80 vllm/vllm-openai:v0.19.1 --model container --dtype half
docker run --gpus all image:1 bash -c "vllm serve inner --name 'y z'"
cat > run.sh <<EOF
vllm serve heredoc --port 1
EOF
if true; then vllm serve conditional; fi
cd /x && vllm serve first ; vllm serve second # vllm serve comment
vllm serve --help
vllm bench serve --model bench
which vllm
vllm serve starts a server
vllm serve list "${OTHER[@]}"
vllm serve all $@
vllm serve flags --trust-remote-code $MORE
vllm serve dots ...
"""


def only(name: str, text: str) -> ManifestLaunch:
    """The one launch in a text."""
    (found,) = launches_in(name, text)
    return found


def test_shell_commands() -> None:
    """Commands in command position launch, through wrappers, containers, shells and documents; nothing else does."""
    found = {launch.line: launch.args for launch in launches_in("run.sh", SHELL) if launch.line < 19}
    assert found == {
        5: ("Qwen/Qwen3-30B-A3B", "--tensor-parallel-size", "$TP", "-cc.mode=3"),
        8: ("--model", "module"),
        9: ("--model", "container", "--dtype", "half"),
        10: ("inner", "--name", "y z"),
        12: ("heredoc", "--port", "1"),
        14: ("conditional",),
        15: ("second",),
    }
    assert [launch.args[0] for launch in launches_in("run.sh", SHELL) if launch.line == 15] == ["first", "second"]


def test_arguments_that_are_not_written_are_noticed() -> None:
    """Arrays, `$@`, a variable behind a flag and an ellipsis may stand for any argument."""
    hidden = {launch.args[0]: launch.hidden for launch in launches_in("run.sh", SHELL) if launch.line >= 19}
    assert hidden == {"list": "${OTHER[@]}", "all": "$@", "flags": "$MORE", "dots": "..."}


def test_variables_of_a_script() -> None:
    """Exports and assignments before the command are the server's; others only substitute."""
    launch = launches_in("run.sh", "A=1\nexport B=2 C=$X\nD=4 vllm serve m --seed $A\nB=$(date)\nvllm serve n $B")
    assert launch[0].env == {"B": "2", "C": None, "D": "4"}
    assert launch[0].args == ("m", "--seed", "1")
    assert launch[1].hidden == "$B"


def test_a_value_that_a_shell_splits_is_several_arguments() -> None:
    """An unquoted variable of several words is more than one argument, a quoted one is one."""
    assert only("run.sh", 'X="--a --b"\nvllm serve m --c $X').args == ("m", "--c", "--a", "--b")
    assert only("run.sh", 'X="a b"\nvllm serve m --name "$X"').args == ("m", "--name", "a b")


CONTAINER = """
apiVersion: {api}
kind: {kind}
metadata: {{name: d}}
spec:
  template:
    spec:
      containers:
      - name: v
        image: vllm/vllm-openai:v0.19.1
        env: [{{name: TP, value: "2"}}, {{name: KEY, valueFrom: {{secretKeyRef: {{}}}}}}]
        args: ["m", "--tensor-parallel-size", "$(TP)", "--api-key=$(KEY)"]
        volumeMounts: [{{name: c, mountPath: /cache}}, {{name: p, mountPath: /models}}]
        startupProbe: {{periodSeconds: 5, failureThreshold: 6, initialDelaySeconds: 20}}
      volumes: [{{name: c, emptyDir: {{}}}}, {{name: p, persistentVolumeClaim: {{claimName: x}}}}]
"""


@pytest.mark.parametrize(
    ("api", "kind"),
    [
        ("apps/v1", "Deployment"),
        ("apps/v1", "StatefulSet"),
        ("batch/v1", "Job"),
        ("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet"),
    ],
)
def test_a_pod_spec_of_any_kind(api: str, kind: str) -> None:
    """Arguments go to the image's entrypoint; variables are put in as the kubelet does; probe and volumes are read."""
    launch = only("x.yaml", CONTAINER.format(api=api, kind=kind))
    assert launch.args == ("m", "--tensor-parallel-size", "2", "--api-key=$(KEY)")
    assert (launch.shape, launch.name, launch.line, launch.image_line) == (kind, "d/v", 9, 10)
    assert launch.env == {"TP": "2", "KEY": None}
    assert launch.pod is not None
    assert launch.pod.probes["startupProbe"].waits == 50
    assert launch.pod.volumes == (
        Volume("/cache", "c", "emptyDir", 13),
        Volume("/models", "p", "persistentVolumeClaim", 13, source="persistentVolumeClaim x"),
    )


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ('command: ["vllm", "serve", "m", "--port", "1"]', ("m", "--port", "1")),
        ('command: ["vllm"]\n    args: ["serve", "m"]', ("m",)),
        ('command: ["python3", "-m", "vllm.entrypoints.openai.api_server"]\n    args: ["--model=m"]', ("--model=m",)),
        ('command: ["sh", "-c", "exec vllm serve m --seed $S"]', ("m", "--seed", "7")),
        (
            'command: ["/bin/bash", "-lc"]\n    args:\n    - |\n      cd /\n      vllm serve m \\\n        --x',
            ("m", "--x"),
        ),
    ],
)
def test_commands_of_a_container(command: str, expected: tuple[str, ...]) -> None:
    """A command in any of its forms, with the container's variables in its script."""
    head = "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - name: c\n    image: x:1\n"
    text = f'{head}    env: [{{name: S, value: "7"}}]\n    {command}\n'
    assert only("x.yaml", text).args == expected


@pytest.mark.parametrize("command", ['["sleep", "1"]', '["vllm", "bench"]', '["sh", "-c", "echo vllm serve"]'])
def test_other_commands_are_no_launches(command: str) -> None:
    """A container that runs something else launches nothing, whatever its image."""
    text = f"apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - image: vllm/vllm-openai:v1\n    command: {command}\n"
    assert launches_in("x.yaml", text) == []


def test_inference_service() -> None:
    """KServe's predictor: `--model_id` is the model; without it, the storage address is."""
    head = "apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\nmetadata: {name: i}\nspec:\n  predictor:\n"
    text = (
        f"{head}    model:\n      modelFormat: {{name: huggingface}}\n      args: [--model_id=a/b, --enforce-eager]\n"
    )
    assert only("x.yaml", text).args == ("--model=a/b", "--enforce-eager")
    text = (
        f"{head}    model:\n      modelFormat: {{name: vLLM}}\n      storageUri: hf://a/b\n      args: [--port, '1']\n"
    )
    assert only("x.yaml", text).args == ("a/b", "--port", "1")
    assert launches_in("x.yaml", f"{head}    model:\n      modelFormat: {{name: sklearn}}\n") == []


def test_llm_inference_service() -> None:
    """KServe's template evaluates variable and arguments once more; `prefill` is a launch of its own."""
    text = """apiVersion: serving.kserve.io/v1alpha2
kind: LLMInferenceService
metadata: {name: l}
spec:
  model: {uri: "hf://a/b", name: b}
  parallelism: {tensor: 2}
  template:
    containers:
    - name: main
      args: ["--x", "'{\\"a\\": 1}'", "--y z", '{"lost": 1}']
      env: [{name: VLLM_ADDITIONAL_ARGS, value: "--foo 'a b'"}]
  prefill:
    template:
      containers: [{name: main, image: "i:1"}]
"""
    main, prefill = launches_in("x.yaml", text)
    head = ("a/b", "--tensor-parallel-size", "2", "--foo", "a b")
    assert main.args == (*head, "--x", '{"a": 1}', "--y", "z", "{lost:", "1}")
    assert (prefill.args, prefill.image, prefill.name) == (("a/b",), "i:1", "l/prefill")


def test_llm_inference_service_without_a_template() -> None:
    """The service is a launch although nothing but the model is written."""
    text = "apiVersion: a/v1\nkind: LLMInferenceService\nspec:\n  model: {uri: 'hf://a/b:main'}\n"
    assert only("x.yaml", text).args == ("a/b",)


def test_helm_values_of_llm_d() -> None:
    """`vllmServe` lets the chart write the command; an image known to serve needs none."""
    text = """modelArtifacts: {uri: "hf://a/b"}
decode:
  containers: [{name: v, modelCommand: vllmServe, image: "x:1", args: ["--port", "1"]}]
prefill:
  containers: [{name: v, modelCommand: imageDefault, image: "vllm/vllm-openai:v0.19.1", args: ["--model", "c/d"]}]
"""
    assert [one.args for one in launches_in("v.yaml", text)] == [("a/b", "--port", "1"), ("--model", "c/d")]
    assert len(launches_in("v.yaml", text.replace("prefill:", "prefill:\n  create: false"))) == 1


def test_helm_values_of_production_stack() -> None:
    """Sizes and LoRA of the chart's own keys, then `extraArgs`; a model that is switched off is not a launch.

    Variables may be a mapping.
    """
    text = """servingEngineSpec:
  startupProbe: {initialDelaySeconds: 0, periodSeconds: 10, failureThreshold: 60}
  modelSpec:
  - {name: off, modelURL: x, enabled: false}
  - name: on
    repository: vllm/vllm-openai
    tag: v0.19.1
    modelURL: a/b
    enableLoRA: true
    env: {VLLM_CACHE_ROOT: /x}
    vllmConfig: {tensorParallelSize: 4, extraArgs: ["--seed", "1"]}
"""
    launch = only("v.yaml", text)
    assert launch.args == ("a/b", "--enable-lora", "--tensor-parallel-size", "4", "--seed", "1")
    assert launch.image == "vllm/vllm-openai:v0.19.1"
    assert launch.pod is not None
    assert launch.pod.probes["startupProbe"].waits == 600
    without_delay = only("v.yaml", text.replace("initialDelaySeconds: 0, ", "")).pod
    assert without_delay is not None
    assert without_delay.probes["startupProbe"].waits is None  # the chart's own number counts, and is not written here
    assert launch.env == {"VLLM_CACHE_ROOT": "/x"}


@pytest.mark.parametrize(
    ("text", "expected", "image"),
    [
        ('FROM a:1\nENTRYPOINT ["vllm", "serve", \\\n  "m"]\nCMD ["--port", "1"]\n', ("m", "--port", "1"), "a:1"),
        ("FROM a AS b\nFROM c:2\nRUN vllm serve no\nCMD vllm serve m \\\n  --x\n", ("m", "--x"), "c:2"),
        ('FROM vllm/vllm-openai:v0.19.1\nCMD ["--model", "m"]\n', ("--model", "m"), "vllm/vllm-openai:v0.19.1"),
        ('FROM a:1\nENTRYPOINT ["sh", "-c", "vllm serve m"]\n', ("m",), "a:1"),
    ],
)
def test_dockerfile(text: str, expected: tuple[str, ...], image: str) -> None:
    """ENTRYPOINT and CMD of the last stage, in either form."""
    launch = only("Dockerfile", text)
    assert (launch.args, launch.image) == (expected, image)


def test_dockerfile_without_a_launch() -> None:
    """Another entrypoint, or a launch in an earlier stage, is none."""
    assert launches_in("Dockerfile", 'FROM a\nENTRYPOINT ["vllm", "serve", "m"]\nFROM b\n') == []
    assert launches_in("Dockerfile", 'FROM vllm/vllm-openai:v1\nENTRYPOINT ["sleep"]\nCMD ["1"]\n') == []


def test_dockerfile_variables() -> None:
    """ENV of the last stage is the server's."""
    assert only("Dockerfile", "FROM a\nENV X=1\nFROM b\nENV Y=2 Z=3\nCMD vllm serve m\n").env == {"Y": "2", "Z": "3"}


def test_markdown() -> None:
    """Fenced shell blocks are read, other text and other languages are not."""
    text = "vllm serve no\n```bash\n$ vllm serve m --x\n```\n```yaml\nvllm serve no\n```\n"
    launch = only("README.md", text)
    assert (launch.args, launch.line) == (("m", "--x"), 3)


def test_scripts_inside_other_documents() -> None:
    """A ConfigMap's script is a launch; a sentence in another value is none."""
    text = "apiVersion: v1\nkind: ConfigMap\ndata:\n  run: |\n    vllm serve m\n  doc: vllm serve is a command\n"
    launch = only("x.yaml", text)
    assert (launch.args, launch.line, launch.shape) == (("m",), 5, "script")


def test_an_anchor_that_is_given_again_counts_from_there_on() -> None:
    """As YAML 1.2 has it, and without a word: some published manifests do so."""
    text = "m: &m first/model\na: {run: vllm serve x}\nn: &m second/model\nb: {command: [vllm, serve, *m]}\n"
    (document,) = read_documents(text)
    assert isinstance(document, Mapping)
    command = document.get("b", "command")
    assert isinstance(command, Sequence)
    assert text_of(command.items[-1]) == "second/model"


def test_anchors_and_merges() -> None:
    """One list that two containers use, and variables that come by a merge key."""
    text = """apiVersion: v1
kind: Pod
spec:
  containers:
  - &c {name: a, command: &l [vllm, serve, m, "--port", "1"], env: &e [{name: A, value: "1"}]}
  - {<<: *c, name: b}
  - {name: c, env: *e, command: *l, args: ["--x"]}
"""
    first, second, third = launches_in("x.yaml", text)
    assert (first.args, first.env) == (("m", "--port", "1"), {"A": "1"})
    assert (second.name, second.args, second.env) == ("b", first.args, first.env)
    assert (third.args, third.env) == (("m", "--port", "1", "--x"), {"A": "1"})


def test_a_list_of_options_without_a_command_is_not_a_launch() -> None:
    """Test files of other projects hold such lists under keys of their own, and nothing says what they start."""
    assert launches_in("x.yaml", "model: m\nserver_cmd: [--port, '1', --served-model-name, vllm]\n") == []
    assert only("x.yaml", "server_cmd: vllm serve m\n").shape == "script"


def test_a_whole_list_as_one_text_is_no_argument_list(tmp_path: Path) -> None:
    """What is not YAML is said not to be YAML, with the line, and never read as something else."""
    with pytest.raises(ValueError, match=r"it is not YAML: .*line 2"):
        launches_in("x.yaml", "a: 1\n\tb: {{ .Values.x }}\n")
    assert not is_manifest(str(tmp_path / "notes.txt"))
    assert is_manifest("a/Dockerfile.gpu")

"""Test support: the argument list that an exported file makes a server start with, found by running what runs it.

Shells are real. Kubernetes' expansion of `$(NAME)`, the strategic merge of patches, the chart's template and KServe's
Go template are stood in for by their documented rules, because a cluster, Helm and Go are not at hand; where there is
a `kubectl`, its kustomize is asked too (tests/test_export_argv.py).
"""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tuner.exports.formats import Format

VLLM = ["vllm", "serve"]
DUMP = "import json, sys; print(json.dumps(sys.argv[1:]))"
LWS = {"LWS_LEADER_ADDRESS": "moe-0.moe.default", "LWS_WORKER_INDEX": "1", "LWS_GROUP_SIZE": "2"}
"""What LeaderWorkerSet sets in a worker's containers."""
MERGE_KEYS = {"containers": "name", "env": "name", "volumes": "name", "volumeMounts": "mountPath"}
"""Lists of a pod that a strategic merge joins by a key; it replaces all others."""
OTHERS = "# the other arguments stay on the command line: `"

Documents = list[dict[str, Any]]


def argv_of(form: str, text: str, folder: Path) -> list[str]:
    """The arguments after `vllm serve` that a file leads to.

    Args:
        form: its format.
        text: the file.
        folder: where files that a shell or vLLM reads may be put.
    """
    if form in {Format.ENV, Format.DOCKERFILE}:
        return shell_argv(text, folder) if form == Format.ENV else dockerfile_argv(text)
    if form == Format.VLLM_YAML:
        return config_argv(text, text, folder)
    documents = list(yaml.safe_load_all(text))
    if form == Format.CONFIGMAP:
        return config_argv(documents[0]["data"]["serve.yaml"], text, folder)
    if form == Format.HELM_PRODUCTION_STACK:
        return chart_argv(documents[0])
    if form == Format.KSERVE_LLMINFERENCESERVICE:
        return kserve_argv(documents[0], folder)
    started = warm_argv if form == Format.WARM_JOB else container_argv
    return started(container_of(form, documents), {})


def container_of(form: str, documents: Documents) -> dict[str, Any]:
    """The container that serves; patches are applied to a Deployment there is."""
    found: dict[str, Any] = pod_of(form, documents)["containers"][-1]
    return found


def pod_of(form: str, documents: Documents) -> dict[str, Any]:
    """The pod that serves, the leader's of a set."""
    by_kind = {document["kind"]: document for document in documents}
    pod: dict[str, Any]
    if form == Format.KSERVE_INFERENCESERVICE:
        pod = by_kind["InferenceService"]["spec"]["predictor"]
    elif form == Format.LEADERWORKERSET:
        pod = by_kind["LeaderWorkerSet"]["spec"]["leaderWorkerTemplate"]["leaderTemplate"]["spec"]
    elif form in {Format.DEPLOYMENT, Format.WARM_JOB}:
        pod = by_kind["Deployment" if form == Format.DEPLOYMENT else "Job"]["spec"]["template"]["spec"]
    else:
        pod = patched(patch_in(documents))["spec"]["template"]["spec"]
    return pod


def patch_in(documents: Documents) -> dict[str, Any]:
    """The strategic merge patch, out of its kustomize component where it is in one."""
    patch: dict[str, Any] = documents[0]
    return yaml.safe_load(patch["patches"][0]["patch"]) if "patches" in patch else patch


def base_deployment(patch: Mapping[str, Any]) -> dict[str, Any]:
    """A Deployment as others write them, for a patch: a sidecar, another probe, arguments and variables of its own."""
    changed = patch["spec"]["template"]["spec"]["containers"][0]["name"]
    server = {
        "name": changed,
        "image": "vllm/vllm-openai:v0.19.1",
        "command": ["sh", "-c"],
        "args": ["vllm serve some/model"],
        "env": [{"name": "HF_HOME", "value": "/models"}, {"name": "VLLM_CACHE_ROOT", "value": "/old"}],
        "startupProbe": {"tcpSocket": {"port": 8000}, "failureThreshold": 3, "initialDelaySeconds": 20},
        "volumeMounts": [{"name": "models", "mountPath": "/models"}],
    }
    labels = {"app": "moe"}
    pod = {
        "containers": [{"name": "sidecar", "image": "sidecar:1", "args": ["--verbose"]}, server],
        "volumes": [{"name": "models", "emptyDir": {}}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": patch["metadata"]["name"], "annotations": {"team": "a"}},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def patched(patch: Mapping[str, Any]) -> dict[str, Any]:
    """That Deployment with the patch applied."""
    return strategic_merge(base_deployment(patch), patch)


def strategic_merge(base: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """The rules of Kubernetes for the fields used here: maps key by key, lists of `MERGE_KEYS` by key."""
    merged = dict(base)
    if patch.get("$patch") == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    for key, value in patch.items():
        old = merged.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            merged[key] = strategic_merge(old, value)
        elif isinstance(value, list) and isinstance(old, list) and key in MERGE_KEYS:
            merged[key] = _merge_lists(old, value, MERGE_KEYS[key])
        else:
            merged[key] = strategic_merge({}, value) if isinstance(value, Mapping) else value
    return merged


def _merge_lists(old: Documents, new: Documents, key: str) -> Documents:
    added = {element[key]: element for element in new}
    kept = [strategic_merge(element, added.pop(element[key], {})) for element in old]
    return [*kept, *added.values()]


def container_argv(container: Mapping[str, Any], variables: Mapping[str, str]) -> list[str]:
    """What a container starts, less `vllm serve`."""
    words = [expanded(word, variables) for word in (*container["command"], *container["args"])]
    assert words[:2] == VLLM
    return words[2:]


def warm_argv(container: Mapping[str, Any], variables: Mapping[str, str]) -> list[str]:
    """What `tuner cache warm` starts, less `vllm serve`: the model, and what stands behind `--`."""
    words = [expanded(word, variables) for word in (*container["command"], *container["args"])]
    assert words[:3] == ["tuner", "cache", "warm"]
    return [words[3], *words[words.index("--") + 1 :]]


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """Kubernetes' expansion (k8s.io/kubernetes/third_party/forked/golang/expansion): `$(NAME)`, and `$$` for `$`."""

    def value(match: re.Match[str]) -> str:
        found = match[0]
        if found == "$$":
            return "$"
        return variables.get(found[2:-1], found) if found.startswith("$(") and found.endswith(")") else found

    return re.sub(r"\$\$|\$\([^)]*\)|\$.", value, text, flags=re.DOTALL)


def shell_argv(text: str, folder: Path) -> list[str]:
    """What a POSIX shell has as arguments after it read the file."""
    (folder / "launch.env").write_text(text, encoding="utf-8")
    script = f'. ./launch.env && exec {shlex.join([sys.executable, "-c", DUMP])} "$@"'
    return run(["sh", "-c", script], folder, {})


def kserve_argv(document: Mapping[str, Any], folder: Path) -> list[str]:
    """What bash makes of the variable that KServe's script evaluates, with what the script gives itself in front."""
    template = json.loads(rendered(json.dumps(document)))["spec"]["template"]
    variables = {variable["name"]: expanded(variable["value"], {}) for variable in template["containers"][0]["env"]}
    binary = folder / "bin"
    binary.mkdir(exist_ok=True)
    (binary / "vllm").write_text(f"#!{sys.executable}\n{DUMP}\n", encoding="utf-8")
    (binary / "vllm").chmod(0o755)
    script = 'eval "exec vllm serve /mnt/models --port 8000 ${VLLM_ADDITIONAL_ARGS} $@"'
    words = run(["bash", "-c", script, "--"], folder, {**variables, "PATH": f"{binary}:{os.environ['PATH']}"})
    assert words[0] == "serve"
    return words[1:]


def rendered(text: str) -> str:
    """Go's template over a resource as JSON: only its raw strings are known here; anything else would be an error."""
    out = re.sub(r"\{\{`([^`]*)`\}\}", lambda match: match[1].replace("{{", "\0"), text)
    assert "{{" not in out
    return out.replace("\0", "{{")


def chart_argv(values: Mapping[str, Any]) -> list[str]:
    """As the chart writes the container (helm/templates/deployment-vllm-multi.yaml): each argument through `quote`."""
    engine = values["servingEngineSpec"]
    model = engine["modelSpec"][0]
    config = model["vllmConfig"]
    words = [model["modelURL"], "--host", "0.0.0.0"]  # noqa: S104  the chart's
    words += ["--port", str(engine.get("containerPort", 8000))]
    words += ["--enable-prefix-caching" if config.get("enablePrefixCaching") else "--no-enable-prefix-caching"]
    if "tensorParallelSize" in config:
        words += ["--tensor-parallel-size", str(config["tensorParallelSize"])]
    return [expanded(yaml.safe_load(go_quoted(word)), {}) for word in [*words, *config["extraArgs"]]]


def go_quoted(text: str) -> str:
    """Go's `%q`."""
    short = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}
    short |= {"\\": "\\\\", '"': '\\"'}

    def letter(one: str) -> str:
        if one in short or one.isprintable():
            return short.get(one, one)
        number = ord(one)
        return f"\\x{number:02x}" if number < 0x80 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"

    return '"' + "".join(map(letter, text)) + '"'


def dockerfile_argv(text: str) -> list[str]:
    """The JSON forms of ENTRYPOINT and CMD; every line is an instruction or a comment, and none goes on in the next."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    instructions = [line.partition(" ")[::2] for line in lines]
    assert not [line for line in lines if line.endswith("\\")]
    assert {name for name, _ in instructions} <= {"LABEL", "ENV", "ENTRYPOINT", "CMD"}
    words: list[str] = [
        word for name, rest in instructions if name in {"ENTRYPOINT", "CMD"} for word in json.loads(rest)
    ]
    assert words[:2] == VLLM
    return words[2:]


def config_argv(config: str, text: str, folder: Path) -> list[str]:
    """The `--config` file, and the arguments that the head says stay on the command line."""
    file = folder / "serve.yaml"
    file.write_text(config, encoding="utf-8")
    unfolded = text.replace("\n#   ", " ").splitlines()
    said = [line.removeprefix(OTHERS).removesuffix("`") for line in unfolded if line.startswith(OTHERS)]
    return ["--config", str(file), *(word for line in said for word in shlex.split(line))]


def run(command: list[str], folder: Path, variables: Mapping[str, str]) -> list[str]:
    """The argument list that a command prints."""
    environment = {"PATH": os.environ["PATH"], "PYTHONUTF8": "1", **variables}
    process = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    words: list[str] = json.loads(process.stdout)
    return words

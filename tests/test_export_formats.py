"""`tuner export`: golden files, what each format says of its evidence, and choices that do not fit."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from exported import CLUSTER, CONDITIONAL, FORMS, PATCHES, UNIFORM, Bench, bench_in
from fake_environment import ERNIE, MIXTRAL, described, model_like, sample, sample_in, serving_in, tuner
from manifest_argv import argv_of, container_of, patch_in, pod_of

from cache.verdicts.store import VerdictStore
from tuner.environment.document import environment_document
from tuner.exports.choices import Choices
from tuner.exports.formats import RENAMED, USES, Format
from tuner.exports.pod import HOME
from tuner.manifests.managed import PREFIX

GOLDEN = Path(__file__).parent / "golden"
LAUNCH = ("--cache-root", "/var/cache/vllm", "--", "-tp", "4", "-pp", "2", "--served-model-name", "it's $HOME")
WRITE = "TUNER_WRITE_GOLDEN"
"""Set, the golden files are written anew; read the difference before it is committed."""
KEY, PROBED = "0" * 64, "2026-01-02T03:04:05+00:00"
COUNTING = {"vllm": "0.15.0", "torch": "2.9.1"}
"""Where MoE layers are counted and no launch can change it."""
MANIFESTS = [form for form in FORMS if form != Format.JSON]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Where the launch decides the flag."""
    return bench_in(tmp_path_factory.mktemp("settable"), "flag-live")


@pytest.fixture(scope="module")
def inert(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Where vLLM forces the flag off."""
    return bench_in(tmp_path_factory.mktemp("inert"), "current")


def timeless(text: str, bench: Bench) -> str:
    """The text without what changes with the probe: the key and the date of the verdict, and the proof's folder."""
    text = re.sub(r"tuner-proof/[0-9a-f]{16}", f"tuner-proof/{KEY[:16]}", text)
    for digest, probed_at in ((entry.digest, entry.probed_at) for entry in VerdictStore(bench.store).entries()):
        text = text.replace(f"'{digest}'", digest)  # quoted where it could be read as a number
        text = text.replace(digest, KEY).replace(digest[:12], KEY[:12]).replace(probed_at, PROBED)
    return text


def golden_file(form: str) -> Path:
    """Where the expected text of a form is."""
    return GOLDEN / (form.replace(" --wrap ", "-") + ".txt")


@pytest.mark.parametrize("form", MANIFESTS)
def test_an_export_is_its_golden_file(bench: Bench, form: str) -> None:
    """Byte for byte, apart from key and date of the verdict."""
    text = timeless(bench.text(form, *LAUNCH), bench)
    file = golden_file(form)
    if os.environ.get(WRITE):
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8")


def test_every_golden_file_has_its_format() -> None:
    """None is left of a format that is gone."""
    assert set(GOLDEN.iterdir()) == {golden_file(form) for form in MANIFESTS}


@pytest.mark.parametrize("form", FORMS)
def test_an_export_is_the_same_every_time(bench: Bench, form: str) -> None:
    """No clock, no order of a set, nothing of this machine."""
    assert bench.text(form, *LAUNCH) == bench.text(form, *LAUNCH)


def annotations_in(form: str, documents: list[dict[str, Any]]) -> dict[str, str]:
    """The annotations of the object that serves."""
    if form == Format.HELM_PRODUCTION_STACK:
        found = documents[0]["servingEngineSpec"]["modelSpec"][0]["annotations"]
    elif form in PATCHES:
        found = patch_in(documents)["metadata"]["annotations"]
    else:
        found = next(
            document["metadata"]["annotations"] for document in documents if "annotations" in document["metadata"]
        )
    return {name.removeprefix(PREFIX): value for name, value in found.items()}


@pytest.mark.parametrize("form", CLUSTER)
def test_an_object_carries_its_evidence(bench: Bench, form: str) -> None:
    """Verdict, key, versions, date, and what must stay true; every value is text, as Kubernetes wants it."""
    annotations = annotations_in(form, bench.documents(form))
    entry = next(one for one in VerdictStore(bench.store).entries() if one.key["architecture"].startswith("Mixtral"))
    assert annotations["verdict"] == "uniform"
    assert (annotations["key"], annotations["probed-at"]) == (entry.digest, entry.probed_at)
    assert (annotations["vllm"], annotations["torch"], annotations["platform"]) == ("0.19.1", "2.10.0", "cuda")
    assert annotations["holds-for"] == "the plain launch"
    assert "no speculative decoding" in annotations["holds-while"]
    assert all(isinstance(value, str) and value.isprintable() for value in annotations.values())


@pytest.mark.parametrize("form", CLUSTER)
def test_what_is_not_true_carries_no_condition(bench: Bench, form: str) -> None:
    """A `false` holds with speculative decoding too."""
    annotations = annotations_in(form, bench.documents(form, model=CONDITIONAL))
    assert annotations["verdict"] == "conditional"
    assert not {"holds-for", "holds-while"} & set(annotations)


@pytest.mark.parametrize("form", MANIFESTS)
@pytest.mark.parametrize("model", [UNIFORM, CONDITIONAL])
def test_an_inert_flag_is_never_written(inert: Bench, form: str, model: str, tmp_path: Path) -> None:
    """Where the key does nothing, the server gets the user's arguments and no more."""
    argv = argv_of(form, inert.text(form, "--", "--max-model-len", "64", model=model), tmp_path)
    assert argv[-2:] == ["--max-model-len", "64"]
    assert not [word for word in argv if "compilation" in word or word.startswith("-cc")]
    if "--config" in argv:
        assert yaml.safe_load((tmp_path / "serve.yaml").read_text(encoding="utf-8")) == {"model": model}


@pytest.mark.parametrize("form", [form for form in CLUSTER if form != Format.CONFIGMAP])
def test_a_users_own_setting_stays_where_the_flag_is_inert(inert: Bench, form: str) -> None:
    """The user's arguments are passed on untouched."""
    assert "-cc.fast_moe_cold_start=true" in inert.text(form, "--", "-cc.fast_moe_cold_start=true")


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A GPU with vLLM 0.15.0, and a model that it would run wrongly whatever the launch says."""
    folder = tmp_path_factory.mktemp("refused")
    environment = described(serving_in(folder / "env", COUNTING).read(), platform="cuda", gpu="NVIDIA H100")
    seen = {"field": "absent", "effective_when_true": None, "counter_ran": None}
    store, saved = folder / "verdicts.sqlite", folder / "environment.json"
    sample_in(store, environment, ERNIE, sample(ERNIE, "flag-live") | {"flag": seen})
    saved.write_text(json.dumps(environment_document(environment)), encoding="utf-8")
    return Bench(folder, saved, store)


@pytest.mark.parametrize("form", FORMS)
def test_a_refused_launch_is_written_for_programs_alone(refused: Bench, form: str) -> None:
    """Exit 4 and no manifest that somebody could apply; the document says that it is refused."""
    answer = refused.ask(form, model=str(ERNIE), code=4)
    assert "This launch is refused." in answer.err
    if form == Format.JSON:
        assert answer.document["refusal"] == "unsafe"
    else:
        assert answer.out == ""


def test_the_help_lists_every_format() -> None:
    """A format that nobody can find does not exist."""
    out = "".join(tuner("export", "--help", code=0).out.split())
    assert f"Oneof:{','.join(Format)}." in out


CHOICES = {
    "image": "mine:one",
    "name": "moe",
    "wrap": "kustomize",
    "container": "main",
    "nodes": 1,
    "model_uri": "pvc://claim/model",
    "cold_start": 467,
    "model_name": "/models/moe",
    "weights_claim": "claim-of-weights",
}


@pytest.mark.parametrize("form", Format)
@pytest.mark.parametrize("choice", CHOICES)
def test_a_choice_counts_or_is_refused(bench: Bench, form: Format, choice: str) -> None:
    """An option that a format would pass over in silence is a usage error; any other changes what is written."""
    option = ("--" + choice.replace("_", "-"), CHOICES[choice])
    if form in USES[choice]:
        is_folder = (form, choice) == (Format.KSERVE_LLMINFERENCESERVICE, "model_name")
        text = bench.text(form, *option, *(("--model-uri", "pvc://claim/model") if is_folder else ()))
        assert str(CHOICES[choice]) in text or "repository: mine\n    tag: one\n" in text
    else:
        answer = bench.ask(form, *option, code=2)
        assert f"The format {form} has no use for --{choice.replace('_', '-')}." in answer.err


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_old_format_is_refused_with_its_new_options(bench: Bench, old: str, new: str) -> None:
    """The new options write a file."""
    assert f"  Use {new}.\n" in bench.ask(old, code=2).err
    assert bench.text(new.removeprefix("--format "))


def test_every_choice_is_known_to_some_format() -> None:
    """The table of uses and the options are the same."""
    assert set(USES) == set(CHOICES) == set(Choices.__dataclass_fields__)


@pytest.mark.parametrize("name", ["Moe", "1moe", "moe-", "a.b", "x" * 51, ""])
def test_a_name_that_kubernetes_refuses_is_refused(bench: Bench, name: str) -> None:
    """Before a cluster does so; an empty one is as good as none."""
    if name:
        assert "not a name for a Kubernetes object" in bench.ask("deployment", "--name", name, code=2).err
    else:
        assert "name: mixtral-8x7b-v0-1\n" in bench.text("deployment", "--name", name)


@pytest.mark.parametrize("image", ["vllm/vllm-openai", "registry:5000/vllm"])
def test_an_image_without_a_tag_is_refused(bench: Bench, image: str) -> None:
    """A verdict is about one release; `latest` is another one tomorrow."""
    assert "names no tag" in bench.ask("deployment", "--image", image, code=2).err


@pytest.mark.parametrize(
    ("platform", "image"), [("cuda", "vllm-openai"), ("rocm", "vllm-openai-rocm"), ("cpu", "vllm-openai-cpu")]
)
def test_the_image_is_of_the_release_that_was_probed(tmp_path: Path, platform: str, image: str) -> None:
    """There is one for each platform under the release's tag; devices are asked for by their plugin's name."""
    container = bench_in(tmp_path, "flag-live", platform).documents("deployment", "--", "-tp", "2")[0]
    found = container["spec"]["template"]["spec"]["containers"][0]
    assert found["image"] == f"vllm/{image}:v0.19.1"
    devices = {"cuda": {"nvidia.com/gpu": "2"}, "rocm": {"amd.com/gpu": "2"}, "cpu": None}
    assert found.get("resources", {}).get("limits") == devices[platform]


def test_a_platform_without_a_known_image_asks_for_one(tmp_path: Path) -> None:
    """Nothing is guessed about plugins' images."""
    bench = bench_in(tmp_path, "flag-live", "oot:ascend")
    assert "Name the image that was probed with --image." in bench.ask("deployment", code=2).err
    assert "image: mine:1\n" in bench.text("deployment", "--image", "mine:1")


def test_a_model_folder_is_named_as_such(bench: Bench, tmp_path: Path) -> None:
    """A folder of this machine is none of the container's; KServe must be told where the model is."""
    model = str(model_like(MIXTRAL, tmp_path / "My Model_2"))
    note = f"the model {model} is a folder: the container needs it at that path, or --model-name NAME says"
    assert note in " ".join(bench.text("env", model=model).replace("\n#", "").split())
    assert "--model-uri" in bench.ask("kserve-llminferenceservice", model=model, code=2).err
    document = bench.documents("kserve-llminferenceservice", "--model-uri", "pvc://c/m", model=model)[0]
    assert document["spec"]["model"] == {"uri": "pvc://c/m", "name": "my-model-2"}


def test_a_folder_that_the_server_fetches_by_a_hub_id_is_not_called_one(bench: Bench, tmp_path: Path) -> None:
    """`--model-name` says what the server calls the model, and the file names nothing of this machine."""
    model = str(model_like(MIXTRAL, tmp_path / "My Model_2"))
    named = ("--model-name", "mistralai/Mixtral-8x7B-v0.1")
    text = bench.text("env", *named, model=model)
    assert "is a folder" not in text
    assert str(tmp_path) not in text
    document = bench.documents("kserve-llminferenceservice", *named, model=model)[0]
    assert document["spec"]["model"] == {"uri": f"hf://{named[1]}", "name": named[1]}


@pytest.mark.parametrize("form", [form for form in CLUSTER if form not in {Format.CONFIGMAP, Format.WARM_JOB}])
def test_a_pod_of_ours_gets_a_cache_root_without_a_tilde(bench: Bench, form: str) -> None:
    """Where the home of the container is not known, vLLM reads the tilde, and the file says so."""
    text = bench.text(form)
    known_home = f"value: {HOME}/.cache/vllm/tuner-proof/" in text
    assert known_home == (f"value: {HOME}\n" in text)
    assert known_home != ("# vLLM itself reads the ~ of VLLM_CACHE_ROOT as its home" in text)


def test_a_revision_reaches_kserves_download(bench: Bench) -> None:
    """The arguments' revision is of no use for the folder that KServe serves; its URI carries it."""
    (bench.folder / "hub" / "hub" / "models--mistralai--Mixtral-8x7B-v0.1" / "refs" / "v1").write_text(
        (bench.folder / "hub" / "hub" / "models--mistralai--Mixtral-8x7B-v0.1" / "refs" / "main").read_text()
    )
    document = bench.documents("kserve-llminferenceservice", "--", "--revision", "v1")[0]
    assert document["spec"]["model"]["uri"] == f"hf://{UNIFORM}:v1"


def test_nodes_divide_the_devices(bench: Bench) -> None:
    """Each node asks for its share; what does not divide is refused."""
    spec = bench.documents("leaderworkerset", "--nodes", "2", "--", "-tp", "8")[0]["spec"]["leaderWorkerTemplate"]
    limits = [spec[f"{role}Template"]["spec"]["containers"][0]["resources"]["limits"] for role in ("leader", "worker")]
    assert limits == [{"nvidia.com/gpu": "4"}] * 2
    assert "cannot be divided" in bench.ask("leaderworkerset", "--nodes", "3", "--", "-tp", "8", code=2).err


def test_a_probe_asks_where_the_server_listens(bench: Bench) -> None:
    """Port and certificate of the user's own; the budget is an hour."""
    args = ("--", "--port", "1", "--port=9000", "--ssl-certfile", "/tls/crt")
    deployment, service = bench.documents("deployment", *args)
    probe = deployment["spec"]["template"]["spec"]["containers"][0]["startupProbe"]
    assert probe["httpGet"] == {"path": "/health", "port": 9000, "scheme": "HTTPS"}
    assert probe["periodSeconds"] * probe["failureThreshold"] == 3600
    assert deployment["spec"]["progressDeadlineSeconds"] > 3600
    assert service["spec"]["ports"][0]["targetPort"] == 9000


@pytest.mark.parametrize(("stated", "port"), [("65535", 65535), ("65536", 8000), ("9" * 100, 8000)])
def test_a_number_that_is_not_a_port_is_left_to_vllm(bench: Bench, stated: str, port: int) -> None:
    """Kubernetes takes none above 65535."""
    deployment, _ = bench.documents("deployment", "--", "--port", stated)
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    assert container["startupProbe"]["httpGet"]["port"] == port
    assert stated in container["args"]


def test_an_api_key_in_the_arguments_is_pointed_out(bench: Bench) -> None:
    """It is the user's own argument, and it would lie in a file."""
    text = bench.text("deployment", "--", "--api-key", "k")
    assert "# the arguments hold a secret (--api-key); VLLM_API_KEY from a Secret" in text


def test_a_name_begins_with_a_letter(bench: Bench, tmp_path: Path) -> None:
    """Services must; a model's name need not."""
    model = str(model_like(MIXTRAL, tmp_path / "4bit.Model--X" / ("y" * 80)).parent / ("y" * 80))
    assert bench.documents("configmap", model=model)[0]["metadata"]["name"] == "y" * 50
    other = str(model_like(MIXTRAL, tmp_path / "4bit"))
    assert bench.documents("configmap", model=other)[0]["metadata"]["name"] == "model-4bit"


WHOLE = [Format.DEPLOYMENT, Format.KSERVE_INFERENCESERVICE, Format.LEADERWORKERSET, Format.WARM_JOB]
"""Formats whose pod is wholly ours."""


def pods_in(form: str, documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every pod of a file; of a set the leader's and the worker's."""
    if form != Format.LEADERWORKERSET:
        return [pod_of(form, documents)]
    group = next(document for document in documents if document["kind"] == "LeaderWorkerSet")["spec"][
        "leaderWorkerTemplate"
    ]
    return [group["leaderTemplate"]["spec"], group["workerTemplate"]["spec"]]


@pytest.mark.parametrize("form", WHOLE)
def test_a_pod_passes_the_restricted_profile(bench: Bench, form: str) -> None:
    """Each field that Kubernetes' profile `restricted` asks for, and a home that its user may write."""
    for pod in pods_in(form, bench.documents(form, "--cache-root", "/cache", "--", "-tp", "2")):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        kinds = {kind for volume in pod["volumes"] for kind in volume if kind != "name"}
        assert kinds <= {"configMap", "emptyDir", "persistentVolumeClaim", "secret"}
        (container,) = pod["containers"]
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        home = next(variable["value"] for variable in container["env"] if variable["name"] == "HOME")
        assert home in {mount["mountPath"] for mount in container["volumeMounts"]}


@pytest.mark.parametrize("form", WHOLE)
def test_a_pod_can_be_scheduled_and_stopped_well(bench: Bench, form: str) -> None:
    """Requests for CPU and memory, shared memory of a size, time to end, and no token of the cluster."""
    text = bench.text(form, "--cache-root", "/cache", "--", "-tp", "2")
    assert "# requests of 4 CPUs and 16Gi are not measured" in text
    for pod in pods_in(form, list(yaml.safe_load_all(text))):
        assert pod["terminationGracePeriodSeconds"] > 30
        assert pod["automountServiceAccountToken"] is False
        (shared,) = [volume["emptyDir"] for volume in pod["volumes"] if volume["name"] == "shm"]
        assert shared == {"medium": "Memory", "sizeLimit": "8Gi"}
        assert set(pod["containers"][0]["resources"]["requests"]) == {"cpu", "memory"}


@pytest.mark.parametrize("form", [Format.DEPLOYMENT, Format.KSERVE_INFERENCESERVICE])
def test_a_slow_start_is_not_killed(bench: Bench, form: str) -> None:
    """Kubernetes asks for life only once the startup probe has succeeded, and it waits minutes for an answer then."""
    container = container_of(form, bench.documents(form, "--cold-start", "7200"))
    startup, alive = container["startupProbe"], container["livenessProbe"]
    assert startup["failureThreshold"] * startup["periodSeconds"] >= 3 * 7200
    assert alive["httpGet"] == startup["httpGet"]
    assert alive["failureThreshold"] * alive["periodSeconds"] >= 300


@pytest.mark.parametrize("form", WHOLE)
def test_the_hubs_token_comes_from_a_secret(bench: Bench, form: str) -> None:
    """It may be missing, and a model that is named by its path needs none."""
    more = ("--cache-root", "/cache") if form == Format.WARM_JOB else ()
    for pod in pods_in(form, bench.documents(form, *more)):
        (token,) = [variable for variable in pod["containers"][0]["env"] if variable["name"] == "HF_TOKEN"]
        secret = {"name": "mixtral-8x7b-v0-1-hub", "key": "token", "optional": True}
        assert token["valueFrom"] == {"secretKeyRef": secret}
    for pod in pods_in(form, bench.documents(form, *more, "--model-name", "/models/moe")):
        assert not [variable for variable in pod["containers"][0]["env"] if variable["name"] == "HF_TOKEN"]


@pytest.mark.parametrize("form", [*WHOLE, *PATCHES, Format.HELM_PRODUCTION_STACK, Format.CONFIGMAP, Format.ENV])
def test_no_path_of_this_machine_is_written(bench: Bench, tmp_path: Path, form: str) -> None:
    """With --model-name the file names the model as the server finds it, and the weights' claim is mounted there."""
    model = str(model_like(MIXTRAL, tmp_path / "own"))
    text = bench.text(form, "--model-name", "/models/moe", model=model)
    assert str(tmp_path) not in text
    assert "/models/moe" in text
    if form in WHOLE:
        claimed = bench.documents(form, "--model-name", "/models/moe", "--weights-claim", "weights-1", model=model)
        (pod, *_) = pods_in(form, claimed)
        mount = {"name": "weights", "mountPath": "/models/moe", "readOnly": True}
        assert mount in pod["containers"][0]["volumeMounts"]
        assert {"name": "weights", "persistentVolumeClaim": {"claimName": "weights-1"}} in pod["volumes"]


@pytest.mark.parametrize("form", [Format.DEPLOYMENT, Format.WARM_JOB, *PATCHES])
def test_a_pod_carries_the_evidence_too(bench: Bench, form: str) -> None:
    """On the template, so that a pod by itself says what it was decided by."""
    documents = bench.documents(form)
    owner = (
        patch_in(documents)
        if form in PATCHES
        else next(document for document in documents if "template" in document["spec"])
    )
    assert owner["spec"]["template"]["metadata"]["annotations"] == owner["metadata"]["annotations"]


def test_the_chart_writes_the_tensor_parallel_size_once(bench: Bench) -> None:
    """It makes an option of `tensorParallelSize`, so `extraArgs` has none; the head says that lists are replaced."""
    text = bench.text("helm-production-stack", "--", "-tp", "4", "--tensor-parallel-size=4", "--port", "81")
    model = yaml.safe_load(text)["servingEngineSpec"]["modelSpec"][0]
    assert model["vllmConfig"]["tensorParallelSize"] == 4
    assert model["vllmConfig"]["extraArgs"][:2] == ["--port", "81"]
    assert "# Helm replaces a list as a whole" in text


def test_an_image_may_be_named_by_its_digest(bench: Bench) -> None:
    """A tag can be moved, and a digest cannot."""
    image = f"vllm/vllm-openai@sha256:{'a' * 64}"
    assert f"image: {image}\n" in bench.text("deployment", "--image", image)


def test_a_format_whose_name_is_shortened_is_named(bench: Bench) -> None:
    """The list alone would be read from its start."""
    assert "helm-production-stack may be meant. Choose one of: json," in bench.ask("helm", code=2).err

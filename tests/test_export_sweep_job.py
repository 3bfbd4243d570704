"""`tuner export --format sweep-job`: workers of a service's queue as an Indexed Job."""

import shlex
from typing import Any

import pytest
import yaml
from fake_environment import tuner
from manifest_schemas import MINORS, core_complaints

from tuner.exports.sweep_job import GRACE_S
from tuner.service.probes import LEASE_S

URL = "https://tuner.tools.svc:8707"
NEEDED = ("--format", "sweep-job", "--service", URL, "--image", "registry:5000/vllm-and-tuner:0.19.1")


def job(*options: str) -> dict[str, Any]:
    """The Job."""
    document: dict[str, Any] = yaml.safe_load(tuner("export", *NEEDED, *options, code=0).out)
    return document


@pytest.mark.parametrize("minor", MINORS)
@pytest.mark.parametrize("options", ["", "--workers 8 --kueue gpus --name moe --platform rocm", "--platform cpu"])
def test_the_job_is_what_its_schema_allows(options: str, minor: str) -> None:
    """Kubernetes' own schema of each release, strictly."""
    assert core_complaints(job(*shlex.split(options)), minor) == []


def test_each_index_is_a_worker_with_one_device() -> None:
    """It ends once the queue is empty; Kubernetes requires that a pod with such a policy is never restarted."""
    spec = job("--workers", "8")["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 8, 8)
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert container["command"] + container["args"] == ["tuner", "worker", "--service", URL, "--until-empty"]
    assert container["resources"] == {"limits": {"nvidia.com/gpu": "1"}}
    assert (pod["restartPolicy"], pod["automountServiceAccountToken"]) == ("Never", False)
    assert "resources" not in job("--platform", "cpu")["spec"]["template"]["spec"]["containers"][0]


def test_exit_codes_decide_what_becomes_of_an_index() -> None:
    """Stopped or evicted is not a failure; a faulty use is never tried again; all else is, three times."""
    spec = job()["spec"]
    rules = spec["podFailurePolicy"]["rules"]
    codes = {rule["action"]: rule["onExitCodes"]["values"] for rule in rules if "onExitCodes" in rule}
    assert codes == {"Ignore": [130], "FailIndex": [2]}
    assert {rule["onExitCodes"]["containerName"] for rule in rules if "onExitCodes" in rule} == {"worker"}
    assert rules[0] == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    assert spec["backoffLimitPerIndex"] == 3


def test_kueue_starts_it_where_it_is_asked() -> None:
    """One label, and the Job is suspended until then."""
    document = job("--kueue", "gpus")
    assert document["metadata"]["labels"] == {"kueue.x-k8s.io/queue-name": "gpus"}
    assert document["spec"]["suspend"] is True
    assert "suspend" not in job()["spec"]


def test_the_token_and_the_certificate_come_from_a_secret() -> None:
    """Neither is in the manifest; the head says what the Secret holds."""
    pod = job("--name", "moe")["spec"]["template"]["spec"]
    assert pod["volumes"] == [{"name": "service", "secret": {"secretName": "moe"}}]
    variables = {variable["name"]: variable["value"] for variable in pod["containers"][0]["env"]}
    (mount,) = pod["containers"][0]["volumeMounts"]
    assert set(variables) == {"TUNER_SERVICE_TOKEN_FILE", "TUNER_SERVICE_CA"}
    assert all(value.startswith(f"{mount['mountPath']}/") for value in variables.values())
    assert "# needs a Secret moe with `token`" in tuner("export", *NEEDED, "--name", "moe", code=0).out


def test_a_stopped_pod_has_time_to_give_its_probe_back() -> None:
    """Else its lease would run out, which is a failure."""
    assert job()["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == GRACE_S <= LEASE_S


@pytest.mark.parametrize(
    "words",
    [
        ("--format", "sweep-job"),
        (*NEEDED, "some/model"),
        (*NEEDED, "--service", "http://tuner:8707"),
        (*NEEDED, "--service", "https://tuner:8707\nkind: Job"),
        (*NEEDED, "--kueue", "a b"),
        (*NEEDED, "--image", "vllm"),
        (*NEEDED, "--name", "No_Name"),
        (*NEEDED, "--platform", "tpu"),
        ("--format", "deployment"),
        ("--format", "deployment", "--kueue", "gpus", "some/model"),
        ("--format", "deployment", "--workers", "2", "some/model"),
    ],
)
def test_a_faulty_export_ends_with_2(words: tuple[str, ...]) -> None:
    """With a sentence, and nothing on stdout that a cluster could take."""
    answer = tuner("export", *words, code=2)
    assert answer.err
    assert "kind: Job" not in answer.out

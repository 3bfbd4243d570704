"""What is promised of admission, tried with the real API server. The first promise that does not hold ends the run."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import yaml
from fake_environment import MODELS

from tools.acceptance import other_webhook
from tools.acceptance.cluster import HOST, Answer, Cluster
from tools.acceptance.pods import (
    OFF,
    ON,
    PODS,
    ROOT,
    SAFE,
    UNSAFE,
    annotations_of,
    container,
    copy_to_create,
    differences,
    labelled,
    pod_of,
    without_admission,
)
from tools.acceptance.processes import until
from tools.acceptance.progress import require, tell
from tools.acceptance.service import ENVIRONMENT, Service
from tuner.manifests.managed import COMPONENT, DECISION, MANAGED, REQUIRED, SKIP_REASON

NAMESPACE = "vllm-moe-tuner"
"""Of the service, as the export has it by default."""
IMAGE = "registry.example/tuner:1"
"""Of the exported service, which is not started from it."""
FINDINGS = (0, 1, 3, 4, 5)
"""Exit codes of `tuner apply` and `tuner check` after a whole run, with and without findings."""
UNADMITTED = "pod-unadmitted"
"""The rule of `tuner check` on pods that the service never saw."""


@dataclass(frozen=True)
class Row:
    """A row of the page: the promise, the outcome, and how often it was tried."""

    promise: str
    outcome: str
    tries: int


@dataclass
class Trial:
    """A cluster, the service that it asks, and the results so far.

    Attributes:
        cluster: the API server.
        service: the real one.
        folder: for files of the run.
        other: port of the other team's webhook.
        rows: promises that held.
        decisions: kind of pod -> what the service wrote of its launch: decision or reason.
    """

    cluster: Cluster
    service: Service
    folder: Path
    other: int
    rows: list[Row] = field(default_factory=list)
    decisions: dict[str, str] = field(default_factory=dict)

    def note(self, promise: str, outcome: str, tries: int = 1) -> None:
        """Record a promise that held."""
        tell(f"{promise}: {outcome}")
        self.rows.append(Row(promise, outcome, tries))

    def create_pod(self, pod: Mapping[str, Any], **query: str) -> dict[str, Any]:
        """Create a pod, which the API server must accept, and return the stored pod."""
        answer = self.cluster.create(pod, **query)
        require(answer.status == HTTPStatus.CREATED, f"the pod is taken, not {answer}")
        return answer.document

    def apply_edits(self, pod: Mapping[str, Any]) -> dict[str, Any]:
        """Write a pod to a manifest, let `tuner apply --write` edit it, and return the edited pod."""
        file = self.folder / "pod.yaml"
        file.write_text(yaml.safe_dump(dict(pod)), encoding="utf-8")
        options = ("--environment", ENVIRONMENT, "--configs", MODELS, "--store", self.service.store)
        self.service.tuner("apply", file, "--write", *options, ends=FINDINGS)
        edited: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
        return edited


def keep_all(trial: Trial) -> None:
    """Try every promise, in an order in which each may count on those before."""
    for promise in PROMISES:
        promise(trial)
        trial.cluster.remove_pods()


# ---- the export


def export_is_taken(trial: Trial) -> None:
    """The API server takes what `tuner export --format service` writes, and a second time nothing changes."""
    options = ("--format", "service", "--image", IMAGE, "--ca-bundle", trial.service.authority)
    documents = list(yaml.safe_load_all(trial.service.tuner("export", *options)))
    for webhook in webhooks_of(documents):
        path = webhook["clientConfig"].pop("service")["path"]
        webhook["clientConfig"]["url"] = f"{trial.service.url}{path}"
    file = trial.folder / "service.yaml"
    file.write_text(yaml.safe_dump_all(documents), encoding="utf-8")
    first = trial.cluster.kubectl("apply", "-f", file)
    require(first.returncode == 0, f"kubectl applies the export: {first.stderr}")
    again = trial.cluster.kubectl("apply", "-f", file)
    unchanged = again.stdout.count(" unchanged\n")
    require(unchanged == len(documents), f"applied again, the export changes nothing: {again.stdout}{again.stderr}")
    probe = labelled(PODS["an unsafe model"])
    until(
        lambda: bool(annotations_of(trial.create_pod(probe, dryRun="All"))),
        "the API server asks the service about a labelled pod",
    )
    kinds = ", ".join(document["kind"] for document in documents)
    trial.note("`kubectl apply` takes the export; applied again it changes nothing", kinds, len(documents))


def webhooks_of(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The webhooks of the exported configuration."""
    kind = "MutatingWebhookConfiguration"
    (configuration,) = [document for document in documents if document["kind"] == kind]
    webhooks: list[dict[str, Any]] = configuration["webhooks"]
    return webhooks


def policy_is_not_taken(trial: Trial) -> None:
    """Kubernetes 1.20 has no ValidatingAdmissionPolicy, so the run cannot try the export of it."""
    file = trial.folder / "policy.yaml"
    file.write_text(trial.service.tuner("export", "--format", "validating-policy"), encoding="utf-8")
    refused = trial.cluster.kubectl("apply", "-f", file)
    missing = 'no matches for kind "ValidatingAdmissionPolicy"' in refused.stderr
    require(refused.returncode != 0 and missing, f"1.20 lacks the kind: {refused.stderr}")
    trial.note(
        "`tuner export --format validating-policy`",
        "not tried: Kubernetes 1.20 says that it has no such kind",
    )


# ---- what is written


def labelled_pods_are_applied(trial: Trial) -> None:
    """A labelled pod is stored as the manifest that `tuner apply` edited, but for our label and annotations."""
    for kind, pod in PODS.items():
        for value in (MANAGED, REQUIRED):
            stored_pod = trial.create_pod(labelled(pod, value))
            by_hand = trial.create_pod(trial.apply_edits(pod))
            different = list(differences(without_admission(stored_pod), without_admission(by_hand)))
            require(not different, f"{kind}: stored as `tuner apply` writes it, and not other in {different}")
            texts = annotations_of(stored_pod)
            require({DECISION, SKIP_REASON} & set(texts), f"{kind}: it says what was decided, not {texts}")
            trial.decisions[kind] = texts.get(SKIP_REASON) or f"{texts[DECISION]}{_with_root(pod, stored_pod)}"
    (unsafe,) = trial.create_pod(labelled(PODS["an unsafe model"]))["spec"]["containers"]
    require(unsafe["args"] == [UNSAFE, "--compilation-config", OFF], f"the unsafe model gets its false, not {unsafe}")
    (safe,) = trial.create_pod(labelled(PODS["a safe model"]))["spec"]["containers"]
    require(safe["args"] == [SAFE, "--compilation-config", ON], f"the safe model gets its true, not {safe}")
    names = [variable["name"] for variable in safe["env"]]
    require(names == [ROOT], f"it gets the cache root of its proof, not {safe}")
    trial.note(
        "a labelled pod is stored as `tuner apply` writes its manifest; beside that it has our annotations",
        f"{len(PODS)} kinds of pods, with either value of the label: no difference",
        2 * len(PODS),
    )


def _with_root(sent: Mapping[str, Any], stored_pod: Mapping[str, Any]) -> str:
    """The variables that admission added to a pod, as text; empty if there are none."""
    before = _variables(sent)
    added = [variable for variable in _variables(stored_pod) if variable not in before]
    return "".join(f", and {variable['name']}={variable['value']}" for variable in added)


def _variables(pod: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The variables of all containers of a pod."""
    variables: list[dict[str, Any]] = []
    for serving in pod["spec"]["containers"]:
        variables += serving.get("env", [])
    return variables


def others_are_untouched(trial: Trial) -> None:
    """The API server does not ask about a pod without our label, with another value, or of the service itself."""
    unsafe = PODS["an unsafe model"]
    untouched = {
        "without the label": unsafe,
        "with another value": labelled(unsafe, "off"),
        "of the service": labelled(unsafe, **{COMPONENT: "service"}),
    }
    space = trial.cluster.kubectl("label", "namespace", NAMESPACE, f"kubernetes.io/metadata.name={NAMESPACE}")
    require(space.returncode == 0, f"the namespace takes the label that it has since 1.21: {space.stderr}")
    until(
        lambda: not annotations_of(_create_in_namespace(trial, dryRun="All")),
        "the service's own namespace is left out",
    )
    before = trial.service.review_count()
    for kind, pod in untouched.items():
        _require_untouched(kind, trial.create_pod(pod), pod)
    _require_untouched("in the service's namespace", _create_in_namespace(trial), unsafe)
    review_count = trial.service.review_count() - before
    require(review_count == 0, f"the service is not asked about pods that do not ask for it, but {review_count} times")
    trial.note(
        "a pod without the label, with another value of it, of the service, or in the service's namespace",
        "stored as it was sent; the service was not asked",
        len(untouched) + 1,
    )


def _create_in_namespace(trial: Trial, **query: str) -> dict[str, Any]:
    """Create a labelled pod in the service's namespace, and return the stored pod."""
    answer = trial.cluster.create(labelled(PODS["an unsafe model"]), NAMESPACE, **query)
    require(answer.status == HTTPStatus.CREATED, f"the pod is taken, not {answer}")
    return answer.document


def _require_untouched(kind: str, stored_pod: Mapping[str, Any], sent: Mapping[str, Any]) -> None:
    """Require that a stored pod has the launches that were sent, and no annotation of admission."""
    require(_vectors(sent) == _vectors(stored_pod), f"{kind}: its launch stays")
    require(not annotations_of(stored_pod), f"{kind}: nothing is written into it")


def _vectors(pod: Mapping[str, Any]) -> list[tuple[object, object]]:
    """Command and arguments of each container of a pod."""
    return [(container.get("command"), container.get("args")) for container in pod["spec"]["containers"]]


def same_pod_twice(trial: Trial) -> None:
    """A pod that was patched and is created again, as a copy of it, is stored as it is."""
    for kind, pod in PODS.items():
        first = trial.create_pod(labelled(pod))
        second = trial.create_pod(copy_to_create(first))
        different = list(differences(copy_to_create(first), copy_to_create(second)))
        require(not different, f"{kind}: a copy of the patched pod stays as it is, but for {different}")
    trial.note("a copy of a patched pod", "stored as it is", len(PODS))


def changed_copy(trial: Trial) -> None:
    """A copy of a pod that was left alone, with a launch that can be decided, loses the reason and gets a decision."""
    copy = copy_to_create(trial.create_pod(labelled(PODS["in a script"])))
    require(SKIP_REASON in annotations_of(copy), "the copy has the reason of the pod before")
    copy["spec"] = PODS["an unsafe model"]["spec"]
    texts = annotations_of(trial.create_pod(copy))
    require(
        DECISION in texts and SKIP_REASON not in texts, f"a copy has the annotations of its own launch, not {texts}"
    )
    trial.note("a copy of a pod that was left alone, with another launch", "a decision in the place of the reason")


def audit_log_tells_it(trial: Trial) -> None:
    """The audit log of the API server has the service's outcome and reason of each review."""
    creator = "acceptance-audit"
    trial.create_pod(labelled(PODS["in a script"]), fieldManager=creator)
    annotation = f"{MANAGED}.{NAMESPACE}.{NAMESPACE}.svc/skip-reason"
    until(lambda: annotation in trial.cluster.audited(creator), f"the audit log has {annotation} for the pod")
    trial.note("the audit log of the API server", "outcome and reason of each review, under the name of the webhook")


def dry_run_leaves_nothing(trial: Trial) -> None:
    """A dry run has the answer of a creation, and neither the API server nor the service stores anything."""
    before = trial.service.changes()
    pod = labelled(PODS["an unsafe model"])
    answered = trial.create_pod(pod, dryRun="All")
    path = f"/api/v1/namespaces/default/pods/{answered['metadata']['name']}"
    require(not trial.cluster.has(path), "a dry run stores no pod")
    different = list(differences(copy_to_create(answered), copy_to_create(trial.create_pod(pod))))
    require(not different, f"a dry run answers what a creation does, but for {different}")
    require(trial.service.changes() == before, "the service stores nothing of a review")
    trial.note("a dry run (`dryRun=All`)", "answered as a creation; no pod is stored, and the service stores nothing")


def warnings_reach_the_user(trial: Trial) -> None:
    """Whoever creates a pod that is left alone is told why by kubectl."""
    file = trial.folder / "script.yaml"
    pod = labelled(PODS["in a script"])
    pod["metadata"] = {"name": "script", "labels": pod["metadata"]["labels"]}
    file.write_text(yaml.safe_dump(pod), encoding="utf-8")
    created = trial.cluster.kubectl("create", "-f", file)
    warned = "Warning: vllm-moe-tuner: the launch stands in a script" in created.stderr
    require(created.returncode == 0 and warned, f"kubectl shows the reason: {created.stderr}")
    trial.note("`kubectl create` of a pod that is left alone", "the reason as a warning")


# ---- beside another webhook


def other_webhook_first(trial: Trial) -> None:
    """The decision is about the pod with the changes of an earlier webhook."""
    with_other(trial, "a-first", "an earlier webhook of another team")


def other_webhook_last(trial: Trial) -> None:
    """The API server asks again after a later webhook changed the pod (`reinvocationPolicy: IfNeeded`)."""
    with_other(trial, "z-last", "a later webhook of another team")


def with_other(trial: Trial, name: str, who: str) -> None:
    """Both webhooks together leave what `tuner apply` would write into the pod with the other's changes."""
    changes = (other_webhook.SIDECAR, other_webhook.ARGUMENT, other_webhook.LAUNCH)
    with other_webhook_in_place(trial, name):
        for change in changes:
            pod = other_pod(change)
            changed_pod = copy_to_create(trial.create_pod(pod))
            both = trial.create_pod(labelled(pod))
            by_hand = trial.create_pod(trial.apply_edits(changed_pod))
            different = list(differences(by_place(without_admission(both)), by_place(without_admission(by_hand))))
            require(not different, f"{who}, {change}: decided with it, but for {different}")
            require(annotations_of(both), f"{who}, {change}: the service is asked, too")
    trial.note(
        f"{who} adds a container, arguments, another launch",
        "stored as `tuner apply` writes the pod with these changes",
        len(changes),
    )


@contextmanager
def other_webhook_in_place(trial: Trial, name: str) -> Iterator[None]:
    """The API server asks the other team's webhook; API servers ask in the order of the configurations' names."""
    file = trial.folder / f"{name}.yaml"
    file.write_text(json.dumps(other_configuration(trial, name)), encoding="utf-8")
    process = trial.cluster.kubectl("apply", "-f", file)
    require(process.returncode == 0, f"the other webhook is taken: {process.stderr}")
    pod = other_pod(other_webhook.SIDECAR)
    until(lambda: _is_changed(trial, pod), "the other webhook is asked")
    yield
    trial.cluster.kubectl("delete", "-f", file)
    until(lambda: not _is_changed(trial, pod), "the other webhook is gone")


def other_pod(change: str) -> dict[str, Any]:
    """A pod that the other webhook is asked about, and the service is not."""
    return pod_of(container(UNSAFE), **{other_webhook.LABEL: change})


def _is_changed(trial: Trial, pod: Mapping[str, Any]) -> bool:
    """Whether the other webhook adds a container to a pod."""
    return len(trial.create_pod(pod, dryRun="All")["spec"]["containers"]) > len(pod["spec"]["containers"])


def by_place(pod: dict[str, Any]) -> dict[str, Any]:
    """A pod with the compilation config behind the other arguments of each container.

    Arguments of a later webhook stand behind the compilation config in one pod and in front of it in the other. vLLM
    reads both alike.
    """
    for entry in pod["spec"]["containers"]:
        arguments = entry.get("args", [])
        if "--compilation-config" in arguments:
            at = arguments.index("--compilation-config")
            entry["args"] = [*arguments[:at], *arguments[at + 2 :], *arguments[at : at + 2]]
    return pod


def other_configuration(trial: Trial, name: str) -> dict[str, Any]:
    """The configuration of the other team's webhook; API servers ask in the order of the names."""
    authority = trial.folder / "service.yaml"
    bundle = webhooks_of(list(yaml.safe_load_all(authority.read_text(encoding="utf-8"))))[0]["clientConfig"]["caBundle"]
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    changes = (other_webhook.SIDECAR, other_webhook.ARGUMENT, other_webhook.LAUNCH, other_webhook.NOTHING)
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": [
            {
                "name": f"{change}.other.example",
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "failurePolicy": "Fail",
                "reinvocationPolicy": "IfNeeded",
                "clientConfig": {"url": f"https://{HOST}:{trial.other}/{change}", "caBundle": bundle},
                "rules": [rule],
                "objectSelector": {"matchLabels": {other_webhook.LABEL: change}},
            }
            for change in changes
        ],
    }


# ---- without the service


def service_is_down(trial: Trial) -> None:
    """A managed pod starts as it was sent, a pod that requires a decision is refused, and other pods do not wait."""
    trial.service.stop()
    without_answers(trial, "stopped")
    trial.service.renew_certificate()
    trial.service.start()
    stored_pod = _until_asked(trial)
    require(annotations_of(stored_pod), "started again, it is asked again")
    trial.note("service started again, with a renewed certificate", "asked as before; the webhooks are the same")


def service_hangs(trial: Trial) -> None:
    """The same holds while the service takes connections and does not answer."""
    trial.service.server().hang()
    try:
        without_answers(trial, "held up (SIGSTOP)")
    finally:
        trial.service.server().go_on()
    _until_asked(trial)


def _until_asked(trial: Trial) -> dict[str, Any]:
    """Wait until the API server asks the service again, and return a labelled pod that is stored then."""
    pod = labelled(PODS["an unsafe model"])
    until(lambda: bool(annotations_of(trial.create_pod(pod, dryRun="All"))), "the API server asks the service again")
    return trial.create_pod(pod)


def without_answers(trial: Trial, state: str) -> None:
    """Create pods of three kinds while the service does not answer, and require the outcome of each."""
    unsafe = PODS["an unsafe model"]
    managed, seconds = with_seconds(lambda: trial.cluster.create(labelled(unsafe)))
    require(managed.status == HTTPStatus.CREATED, f"{state}: a managed pod starts, not {managed}")
    _require_untouched(f"{state}: a managed pod", managed.document, unsafe)
    trial.note(f"service {state}, `{MANAGED}` (`Ignore`)", f"stored as it was sent, after {seconds:.2f} s")
    required, seconds = with_seconds(lambda: trial.cluster.create(labelled(unsafe, REQUIRED)))
    message = str(required.document.get("message"))
    refused = required.status == HTTPStatus.INTERNAL_SERVER_ERROR and f"{REQUIRED}.{NAMESPACE}" in message
    require(refused, f"{state}: a pod that requires a decision is refused by name, not {required}")
    outcome = f"refused after {seconds:.2f} s, with {required.status} and the name of the webhook"
    trial.note(f"service {state}, `{REQUIRED}` (`Fail`)", outcome)
    plain, seconds = with_seconds(lambda: trial.cluster.create(unsafe))
    require(plain.status == HTTPStatus.CREATED, f"{state}: a pod without the label starts, not {plain}")
    trial.note(f"service {state}, no label", f"stored after {seconds:.2f} s")


def with_seconds(ask: Callable[[], Answer]) -> tuple[Answer, float]:
    """An answer, and the seconds that it took."""
    begin = time.perf_counter()
    answer = ask()
    return answer, time.perf_counter() - begin


def check_names_the_missed(trial: Trial) -> None:
    """`tuner check` finds, in what kubectl prints, the labelled pods that started while the service was down."""
    missed_name = "missed-by-the-service"
    trial.service.stop()
    pod = labelled(PODS["an unsafe model"])
    pod["metadata"] = {"name": missed_name, "labels": pod["metadata"]["labels"]}
    trial.create_pod(pod)
    trial.service.start()
    decided_name = _until_asked(trial)["metadata"]["name"]
    pods = trial.cluster.kubectl("get", "pods", "--all-namespaces", "--output", "json").stdout
    options = ("--environment", ENVIRONMENT, "--configs", MODELS, "--store", trial.service.store)
    words = ("check", "-", "--service", trial.service.url, "--select", UNADMITTED, "--json", *options)
    findings = trial.service.tuner(*words, ends=FINDINGS, stdin=pods)
    require(missed_name in findings, f"the pod that was missed is named: {findings}")
    require(decided_name not in findings, f"the pod that was seen is not named: {findings}")
    trial.note(
        "what `kubectl get pods -A -o json` lists, given to `tuner check - --service URL`",
        "names the pod that was missed, and not the one that was seen",
    )


PROMISES = (
    export_is_taken,
    labelled_pods_are_applied,
    others_are_untouched,
    same_pod_twice,
    changed_copy,
    audit_log_tells_it,
    dry_run_leaves_nothing,
    warnings_reach_the_user,
    other_webhook_first,
    other_webhook_last,
    service_is_down,
    service_hangs,
    check_names_the_missed,
    policy_is_not_taken,
)

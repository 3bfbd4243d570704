"""Admission: a labelled pod gets what `tuner apply` would write into its manifest, and nothing else.

Everything comes from the store, the folder of models and the environments of images; nothing is run or fetched. What is
decided depends on the containers alone, and the annotations describe the pod as it will be. So a pod that comes back
patched is answered without a patch.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from msgspec import Struct
from msgspec.json import decode, encode

from rules.decide import FLAG_KEY
from rules.errors import ErrorKind, TunerError
from tuner.checks.apply import Applied, LeftAlone, apply_sent, warnings_of
from tuner.checks.examine import Examined, Knowledge, read_arguments
from tuner.checks.sources import SENT, launches_of
from tuner.manifests.launch import ManifestLaunch
from tuner.manifests.managed import (
    ANNOTATIONS,
    COMPONENT,
    DECISION,
    KEY,
    LABEL,
    MANAGED,
    REQUIRED,
    SKIP_REASON,
    VERDICT,
)
from tuner.service.endpoint import Asked, Reply, State, as_json, recent_answer
from tuner.service.recent import RecentAnswer
from tuner.service.review import ReviewRequest, answer_to, read_review
from tuner.text import visible

MAX_TEXT = 2**18
"""Bytes of what is looked at of a pod; published pods have a fiftieth of that."""
MOST_ARGUMENTS = 1000
"""Items of all argument lists of a pod."""
MOST_LAUNCHES = 4
"""Launches of one pod; each takes some ten milliseconds."""
MAX_ANNOTATION = 1000
"""Characters of an annotation; Kubernetes takes 256 KiB of all of them together."""
LISTS = ("containers", "initContainers")
"""Lists of containers in a pod."""
VECTORS = ("command", "args")
"""Lists of arguments in a container."""
VARIABLES = "env"
"""The list of variables of a container."""
LOOKED_AT = ("name", "image", *VECTORS, VARIABLES, "envFrom", "restartPolicy")
"""Members of a container that decide, beside parts of the next two; all others change nothing."""
MOUNTS, SECURITY = "volumeMounts", "securityContext"
OF_MOUNT, OF_SECURITY = ("mountPath", "readOnly"), ("readOnlyRootFilesystem", "runAsUser", "runAsNonRoot")
"""What decides of them. Names of mounts are left out: that of a token is another one in each pod."""
IN_SCRIPT = "the launch stands in a script, which is not edited; state it as lists in `command` and `args`"
NO_LAUNCH = "no container starts vLLM in a form that is read"


class Judged(Struct, frozen=True):
    """What becomes of the containers of a pod.

    Attributes:
        lists: the lists of arguments and variables that change: place in the pod's spec, such as `("containers", 0,
            "args")`, the list as it is, and the list as it will be. One that is not there yet is empty.
        annotations: those that the pod is to have; the others of ours it is not to have.
        warnings: for whoever creates the pod.
        outcome: `patched`, `right` or `skipped`.
    """

    lists: tuple[tuple[tuple[str, int, str], list[Any], list[Any]], ...]
    annotations: dict[str, str]
    warnings: tuple[str, ...]
    outcome: str


def admit(state: State, asked: Asked) -> Reply:
    """Let an object through; a labelled pod with the right arguments, or with the reason why they stay."""
    request = read_review(asked.body)
    labels = _mapping(_mapping(request.object, "metadata"), "labels")
    if not request.creates_pod or COMPONENT in labels or labels.get(LABEL) not in (MANAGED, REQUIRED):
        state.metrics.count_admission("passed")
        return _reply(answer_to(request, (), (), {}))
    judged = _judged(state, asked, _mapping(request.object, "spec"))
    state.metrics.count_admission(judged.outcome)
    return _reply(_answer(request, judged))


def _reply(document: Mapping[str, Any]) -> Reply:
    return Reply(as_json(document))


def _mapping(value: object, name: str) -> dict[str, Any]:
    """The mapping below a key of a mapping; an empty one if there is none."""
    below = value.get(name) if isinstance(value, dict) else None
    return below if isinstance(below, dict) else {}


def _answer(request: ReviewRequest, judged: Judged) -> dict[str, Any]:
    patch = _patch(request.object or {}, judged)
    audit = {"outcome": judged.outcome}
    if SKIP_REASON in judged.annotations:
        audit["skip-reason"] = judged.annotations[SKIP_REASON]
    return answer_to(request, patch, judged.warnings, audit)


def _patch(pod: Mapping[str, Any], judged: Judged) -> list[dict[str, Any]]:
    """What changes, behind tests that it is what was looked at; nothing if nothing changes or annotations are none."""
    tests: list[dict[str, Any]] = []
    changes: list[dict[str, Any]] = []
    for (group, index, name), before, after in judged.lists:
        path, container = f"/spec/{group}/{index}", pod["spec"][group][index]
        tests += _test(f"{path}/name", container.get("name"))
        if name == VARIABLES:
            changes += _added(f"{path}/{name}", after[len(before) :], is_there=name in container)
        else:
            tests += _test(f"{path}/{name}", before)
            changes.append({"op": "replace", "path": f"{path}/{name}", "value": after})
    annotations = pod["metadata"].get("annotations")
    if annotations is None:
        return [*tests, *changes, {"op": "add", "path": "/metadata/annotations", "value": judged.annotations}]
    if not isinstance(annotations, dict):
        return []
    for name in ANNOTATIONS:
        path = "/metadata/annotations/" + name.replace("/", "~1")
        old, new = annotations.get(name), judged.annotations.get(name)
        if old == new:
            continue
        if name in annotations:
            tests += _test(path, old)
        changes.append({"op": "remove", "path": path} if new is None else {"op": "add", "path": path, "value": new})
    return [*tests, *changes] if changes else []


def _added(path: str, new: list[Any], *, is_there: bool) -> list[dict[str, Any]]:
    """Variables put behind those of a container, none of which is written anew."""
    if not is_there:
        return [{"op": "add", "path": path, "value": new}]
    return [{"op": "add", "path": f"{path}/-", "value": variable} for variable in new]


def _test(path: str, value: object) -> list[dict[str, Any]]:
    """The operation that tests a text or a list of texts; none where encoders of JSON write it in several ways.

    API servers compare the bytes of both JSON texts (kubernetes/apiserver 100), and refuse the pod if they differ,
    whatever the failure policy is: Go escapes `&` and writes `ü` as it is, Python does the reverse.
    """
    texts = value if isinstance(value, list) else [value]
    if not all(isinstance(text, str) and _has_one_encoding(text) for text in texts):
        return []
    return [{"op": "test", "path": path, "value": value}]


def _has_one_encoding(text: str) -> bool:
    return text.isascii() and text.isprintable() and not set("<>&") & set(text)


def _judged(state: State, asked: Asked, spec: Mapping[str, Any]) -> Judged:
    """What becomes of a pod; of the same containers a moment ago, the same."""
    try:
        text = _text(spec)
    except ValueError as error:
        return _skipped(str(error))

    def make() -> RecentAnswer:
        judged = judge(text, Knowledge(state.store, configs=state.configs, images=state.images))
        return RecentAnswer(encode(judged), judged.outcome, ())

    digest = hashlib.sha256(b"admission " + text.encode()).digest()
    return decode(recent_answer(state, asked, digest, make).body, type=Judged)


def _text(spec: Mapping[str, Any]) -> str:
    """A pod with what decides alone, as JSON.

    Raises:
        ValueError: it has another shape, is too large, or holds what is no text; the message says so.
    """
    lists = {group: list(_containers(spec, group)) for group in LISTS}
    if sum(map(_arguments, chain(*lists.values()))) > MOST_ARGUMENTS:
        raise ValueError(f"the pod's containers have more than {MOST_ARGUMENTS} arguments")
    of_pod = _members(spec.get(SECURITY), OF_SECURITY)
    document = {"apiVersion": "v1", "kind": "Pod", "spec": {**lists, SECURITY: of_pod}}
    try:
        text = json.dumps(document, ensure_ascii=False, allow_nan=False)
        size = len(text.encode())
    except ValueError:  # UnicodeEncodeError among them
        raise ValueError("the pod's containers hold what is no text and no number") from None
    if size > MAX_TEXT:
        raise ValueError(f"the pod's containers are longer than {MAX_TEXT >> 10} KiB")
    return text


def _containers(spec: Mapping[str, Any], group: str) -> Iterator[dict[str, Any]]:
    """The containers of a list, with what decides alone.

    Raises:
        ValueError: it is no list of objects.
    """
    containers = spec.get(group) or []
    if not isinstance(containers, list) or not all(isinstance(container, dict) for container in containers):
        raise ValueError(f"the pod's {group} are no list of objects")
    for container in containers:
        yield {name: container[name] for name in LOOKED_AT if name in container} | _parts(container)


def _parts(container: Mapping[str, Any]) -> dict[str, Any]:
    """What decides of a container's mounts and its security context."""
    mounts = container.get(MOUNTS)
    listed = [_members(mount, OF_MOUNT) for mount in mounts] if isinstance(mounts, list) else []
    return {MOUNTS: listed, SECURITY: _members(container.get(SECURITY), OF_SECURITY)}


def _members(value: object, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value[name] for name in names if name in value} if isinstance(value, dict) else {}


def _arguments(container: Mapping[str, Any]) -> int:
    """How many items the argument lists of a container have."""
    vectors = map(container.get, VECTORS)
    return sum(len(vector) for vector in vectors if isinstance(vector, list))


def judge(text: str, knowledge: Knowledge) -> Judged:
    """What becomes of a pod.

    Args:
        text: the pod as JSON.
        knowledge: what is known beside it.

    Raises:
        StoreError: the store is damaged.
    """
    try:
        number = len(launches_of(SENT, text))
        if not 0 < number <= MOST_LAUNCHES:
            return _skipped(f"the pod has {number} launches, more than {MOST_LAUNCHES}" if number else NO_LAUNCH)
        applied = apply_sent(text, knowledge)
        launches = launches_of(SENT, applied.after)
    except ValueError as error:
        return _skipped(f"the pod cannot be read: {error}")
    except TunerError as error:
        if error.kind is ErrorKind.STORE:
            raise
        return _skipped(error.message)
    reasons = list(dict.fromkeys(_reasons(applied.left_alone, several=len(launches) > 1)))
    decided = list(_decided(applied, launches))
    lists = tuple(_changed_lists(json.loads(text), json.loads(applied.after)))
    annotations = _evidence(decided)
    if reasons:
        annotations[SKIP_REASON] = _short("; ".join(reasons))
    warnings = [warning for examined, _ in decided for warning in warnings_of(examined)]
    outcome = _outcome(patched=bool(lists), skipped=bool(reasons))
    return Judged(lists, annotations, tuple(map(_warning, [*reasons, *warnings])), outcome)


def _outcome(*, patched: bool, skipped: bool) -> str:
    if patched:
        return "patched"
    return "skipped" if skipped else "right"


def _decided(applied: Applied, launches: list[ManifestLaunch]) -> Iterator[tuple[Examined, ManifestLaunch]]:
    """Each launch with a plan that is not left alone: what is known of it, and the launch as it will be."""
    left_alone = [alone.launch for alone in applied.left_alone]
    if None in left_alone:
        return
    for examined, launch in zip(applied.examined, launches, strict=True):
        is_left = any(launch_left is examined.launch for launch_left in left_alone)
        if examined.plan is not None and not is_left:
            yield examined, launch


def _skipped(reason: str) -> Judged:
    return Judged((), {SKIP_REASON: _short(reason)}, (_warning(reason),), "skipped")


def _warning(text: str) -> str:
    return f"vllm-moe-tuner: {visible(text)}"


def _short(text: str) -> str:
    """A text as an annotation: on one line, and not too long."""
    line = visible(" ".join(text.split()))
    return line if len(line) <= MAX_ANNOTATION else line[: MAX_ANNOTATION - 1] + "…"


def _reasons(left_alone: tuple[LeftAlone, ...], *, several: bool) -> Iterator[str]:
    """Why launches are left alone; each names its container if the pod has several launches."""
    for alone in left_alone:
        reason = alone.reason or alone.sentence.lstrip(": ")
        if alone.launch is not None and _in_script(alone.launch):
            reason = IN_SCRIPT
        yield f"{alone.launch.name}: {reason}" if several and alone.launch is not None else reason


def _in_script(launch: ManifestLaunch) -> bool:
    """Whether no argument stands in a list of the pod."""
    return all(word.owner is None for word in launch.words)


def _evidence(decided: list[tuple[Examined, ManifestLaunch]]) -> dict[str, str]:
    """What launches carry, and what that rests on: annotations; with several launches, each names its container."""
    parts: dict[str, list[str]] = {}
    for examined, launch in decided:
        for name, text in _evidence_of(examined, launch):
            parts.setdefault(name, []).append(f"{launch.name}: {text}" if len(decided) > 1 else text)
    return {name: _short("; ".join(texts)) for name, texts in parts.items()}


def _evidence_of(examined: Examined, launch: ManifestLaunch) -> Iterator[tuple[str, str]]:
    """Annotations of one launch: the flag that it carries, whoever wrote it, and the verdict."""
    arguments, _ = read_arguments("", launch)
    value = arguments.compilation_config.get(FLAG_KEY)
    yield DECISION, f"{FLAG_KEY} is not set" if value is None else f"{FLAG_KEY}={json.dumps(value)}"
    if examined.plan is None:
        return
    lookup = examined.plan.lookup
    yield VERDICT, str(lookup.verdict.word) if lookup.verdict else "none stored"
    if lookup.entry is not None:
        yield KEY, lookup.entry.digest


def _changed_lists(
    before: Mapping[str, Any], after: Mapping[str, Any]
) -> Iterator[tuple[tuple[str, int, str], list[Any], list[Any]]]:
    """The lists of arguments and variables in which two readings of a pod differ."""
    for group in LISTS:
        pairs = zip(before["spec"][group], after["spec"][group], strict=True)
        for index, (old, new) in enumerate(pairs):
            for name in (*VECTORS, VARIABLES):
                if old.get(name) != new.get(name):
                    yield (group, index, name), old.get(name) or [], new[name]

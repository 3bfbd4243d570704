"""What is known of a launch that a manifest states: its model, its environment, its verdict, and the plan they make."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from itertools import pairwise
from pathlib import Path

from msgspec.structs import replace as with_fields

from cache.key import differences
from cache.verdicts.entry import Entry
from cache.verdicts.store import VerdictStore
from rules.decide import FLAG_KEY, Refusal
from rules.errors import ErrorKind, TunerError
from rules.reason import Reason, reason
from rules.releases import parse_version, public_version
from rules.report import Report
from rules.verdict import Verdict
from tuner.arguments.serve_arguments import ServeArguments, parse
from tuner.arguments.vllm_options import Kind, indexes_of_field, scan
from tuner.checks.cache_place import why_not_writable
from tuner.environment.environment import Environment
from tuner.launch.cache_root import CACHE_ROOT
from tuner.launch.plan import Options, Plan, plan_against_user, plan_with
from tuner.manifests.image import Image, parse_image
from tuner.manifests.launch import ManifestLaunch
from tuner.model.model import Model, identify, model_in, unidentified
from tuner.text import brief
from tuner.untrusted.files import read_plain
from tuner.verdicts.answer import LookUp
from tuner.verdicts.identity import Subject, base_factors, remote_code
from tuner.verdicts.lookup import current_report, look_up

OFFLINE = "HF_HUB_OFFLINE"
SEVERAL = "2"
"""Stands for a number that the manifest does not state, such as `--tensor-parallel-size $TP`. With it the setting
counts as in use, and no value makes a launch less safe than that."""
MAX_CONFIG_FILE = 2**20
"""Bytes of a file that `--config` names."""
NO_MODEL = "the arguments name no model"
NOT_WRITTEN = "is not written here"
"""Ends what is said of a model whose name a substitution holds."""
LOOSE = {"sources", "torch", "platform"}
"""Factors of the key that a vLLM version alone does not tell."""


@dataclass(frozen=True)
class Knowledge:
    """What a check knows beside the manifests.

    Attributes:
        store: the stored verdicts.
        environment: that of the images, as `tuner env --json` saved it; None: the image's tag is all there is.
        vllm_version: that of images whose tag does not say.
        configs: a folder of folders ORGANISATION--NAME with a `config.json` each; None: none.
        accept_platform: a platform whose verdicts may stand in for another's.
        cold_start: seconds that a cold start was measured to take; None: not known.
        named_store: the path of the store, where the user named one: a command to run next needs it; else None.
        images: patterns of image names, as in a shell, each with the environment of these images. The environment of
            the first pattern that fits an image takes the place of `environment`.
    """

    store: VerdictStore
    environment: Environment | None = None
    vllm_version: str | None = None
    configs: Path | None = None
    accept_platform: str | None = None
    cold_start: float | None = None
    named_store: str | None = None
    images: tuple[tuple[str, Environment], ...] = ()

    def of_image(self, image: str | None) -> "Knowledge":
        """What is known where a launch runs in this image."""
        for pattern, environment in self.images:
            if image is not None and fnmatchcase(image, pattern):
                return replace(self, environment=environment)
        return self


@dataclass(frozen=True)
class Examined:
    """A launch with what is known of it.

    Attributes:
        path: the manifest; empty where it was sent, and no file of this machine is read for it.
        launch: as it is stated there.
        arguments: its arguments, read; None if vLLM would refuse them, or if they cannot be read here.
        refusal: why the arguments were not read; empty if they were read.
        hidden: why some arguments may be missing; empty if none are.
        version: of the vLLM that will serve; None if nothing tells it.
        exact: the environment is known as a whole, not by its version alone.
        contradiction: that the image's tag states another vLLM than was given, and what to do; whole sentences; empty
            if it does not.
        aside: why the environment given does not stand for the image, where their versions agree; empty if it does.
        model: None if the model cannot be identified here.
        model_problem: why the model cannot be identified.
        plan: what `tuner serve` would make of it; None without a version or arguments. It writes `false` where it would
            write `true`, and the manifest cannot give the launch the cache root that this needs.
        no_root: why it cannot; None if it can, or if no `true` would be written.
        true_refused: an explicit `true` would contradict what is known.
        cold_start: seconds that a cold start was measured to take; None: not known.
    """

    path: str
    launch: ManifestLaunch
    arguments: ServeArguments | None = None
    refusal: str = ""
    hidden: str = ""
    version: str | None = None
    exact: bool = False
    contradiction: str = ""
    aside: str = ""
    model: Model | None = None
    model_problem: str = ""
    plan: Plan | None = None
    no_root: Reason | None = None
    true_refused: bool = False
    cold_start: float | None = None


def examine(path: str, launch: ManifestLaunch, knowledge: Knowledge) -> Examined:
    """Find out what is known of a launch. Uses no network: models come from folders and the local hub cache.

    Args:
        path: the manifest; empty: it was sent, so that models come from the folder in `knowledge` alone, and no other
            file is read.
        launch: the launch.
        knowledge: what is known beside it.

    Raises:
        StoreError: the store is damaged.
    """
    image = parse_image(launch.image) if launch.image else None
    knowledge = knowledge.of_image(launch.image)
    contradiction = _contradiction(image, knowledge)
    environment, aside = _environment(launch, image, knowledge, contradicted=bool(contradiction))
    examined = Examined(
        path,
        launch,
        hidden=launch.hidden,
        version=environment.vllm if environment else None,
        exact=_is_exact(environment, image, knowledge),
        contradiction=contradiction,
        aside=aside,
        cold_start=knowledge.cold_start,
    )
    try:
        arguments, hidden = read_arguments(path, launch)
    except TunerError as error:
        return replace(examined, refusal=error.message)
    examined = replace(examined, arguments=arguments, hidden=examined.hidden or hidden)
    with offline() if path else nullcontext():
        model, problem = _model(launch, arguments, knowledge.configs, sent=not path)
        examined = replace(examined, model=model, model_problem=problem)
        return examined if environment is None else _planned(examined, environment, arguments, knowledge)


@contextmanager
def offline() -> Iterator[None]:
    """Keep the hub's client, and `tuner.model.hub`, off the network; HF_HUB_OFFLINE is how both are told."""
    before = os.environ.get(OFFLINE)
    os.environ[OFFLINE] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(OFFLINE, None)
        else:
            os.environ[OFFLINE] = before


def _planned(examined: Examined, environment: Environment, arguments: ServeArguments, knowledge: Knowledge) -> Examined:
    """The plan, and whether an explicit `true` would be refused."""
    serving = arguments.serving
    model = examined.model or unidentified(arguments.model or "")
    subject = Subject(model, environment, serving.model_impl, serving.trust_remote_code)
    if examined.model is None:
        lookup = LookUp(None, None, (reason("not_looked_up", why=examined.model_problem),), verified=False)
    elif examined.exact:
        lookup = look_up(knowledge.store, subject, files_at_hand=False, accept_platform=knowledge.accept_platform)
    else:
        subject, lookup = _by_version(subject, launch_platform(examined.launch), knowledge)
    options = _options(examined, knowledge)

    def planned_with(options: Options) -> Plan:
        return plan_with(knowledge.store, subject, arguments, options, lookup)

    planned = _rooted(examined, options, planned_with)
    with_true = with_fields(arguments, compilation_config={**arguments.compilation_config, FLAG_KEY: True})
    refused = plan_with(knowledge.store, subject, with_true, options, lookup).decision.refusal is Refusal.UNSAFE
    return replace(planned, true_refused=refused)


def _rooted(examined: Examined, options: Options, make: Callable[[Options], Plan]) -> Examined:
    """A launch with its plan: of `true` only where the manifest has the cache root for it, or can get it.

    Args:
        examined: the launch.
        options: how to decide.
        make: makes the plan.
    """
    examined = replace(examined, plan=make(options), no_root=None)
    variable = missing_root(examined)
    if not variable or not examined.exact or examined.plan is None or examined.plan.decision.setting is not True:
        return examined
    why = why_not_writable(examined.launch, examined.plan.launch.env[CACHE_ROOT])
    if not why:
        return examined
    no_root = reason("root_not_written", variable=variable, why=why)
    return replace(examined, plan=make(with_fields(options, old_code=no_root)), no_root=no_root)


def overridden(examined: Examined, knowledge: Knowledge) -> Examined:
    """The same launch with a plan that changes the user's own values, where these are refused.

    Raises:
        StoreError: the store is damaged.
    """
    plan, arguments = examined.plan, examined.arguments
    if plan is None or arguments is None or plan.decision.refusal is not Refusal.UNSAFE:
        return examined
    subject, lookup = plan.subject, plan.lookup

    def against_user(options: Options) -> Plan:
        replanned = plan_against_user(knowledge.store, subject, arguments, options, plan) or plan
        if replanned.decision.refusal is not Refusal.UNSAFE or FLAG_KEY not in arguments.compilation_config:
            return replanned
        others = {key: value for key, value in arguments.compilation_config.items() if key != FLAG_KEY}
        without_flag = with_fields(arguments, compilation_config=others)
        replanned = plan_with(knowledge.store, subject, without_flag, options, lookup)
        return plan_against_user(knowledge.store, subject, without_flag, options, replanned) or replanned

    return _rooted(examined, _options(examined, knowledge), against_user)


def _options(examined: Examined, knowledge: Knowledge) -> Options:
    stated = {name: value for name, value in examined.launch.env.items() if value is not None}
    options = Options(
        fail_on_unknown=False,
        enforce=True,
        cache_root=None,
        cache_dir_in_config=False,
        environ=stated,
        files_at_hand=False,
        accept_platform=knowledge.accept_platform,
        elsewhere=not {CACHE_ROOT, "XDG_CACHE_HOME", "HOME"} & stated.keys(),
        tool_options=("--store", knowledge.named_store) if knowledge.named_store else (),
    )
    return options if examined.path else with_fields(options, identify=partial(_model_of_folder, knowledge.configs))


def _model_of_folder(configs: Path | None, name: str, *, revision: str | None = None) -> Model:
    """The model of that name in a folder of models, and nowhere else on this machine.

    Raises:
        TunerError: it is not there; the folder does not tell revisions.
    """
    model = model_in(configs, name) if configs and revision is None else None
    if model is None:
        at = f" at {brief(revision)}" if revision else ""
        raise TunerError(f"there is no folder of the model {brief(name)}{at}", kind=ErrorKind.MODEL)
    return model


def missing_root(examined: Examined) -> str:
    """The variable that keeps a launch with a `true` from code that another launch compiled, where it is not set."""
    root = examined.plan.launch.env.get(CACHE_ROOT) if examined.plan else None
    return "" if root is None or examined.launch.env.get(CACHE_ROOT) == root else f"{CACHE_ROOT}={root}"


def launch_platform(launch: ManifestLaunch) -> str | None:
    """The platform that the image of a launch is built for, if its name says."""
    return parse_image(launch.image).platform if launch.image else None


def _is_exact(environment: Environment | None, image: Image | None, knowledge: Knowledge) -> bool:
    """Whether the environment is the saved one, and nothing in the image's name contradicts it."""
    saved, platform = knowledge.environment, image.platform if image else None
    return saved is not None and environment is saved and platform in {None, saved.platform}


def _environment(
    launch: ManifestLaunch, image: Image | None, knowledge: Knowledge, *, contradicted: bool
) -> tuple[Environment | None, str]:
    """The environment, and why the saved one does not stand for the image, if a message needs it.

    Where both contradict each other, a tag that surely names a vLLM counts, and no other tag does.
    """
    saved, platform = knowledge.environment, image.platform if image else None
    other_platform = saved is not None and platform is not None and platform != saved.platform
    if saved is not None and not contradicted and (launch.may_build_image or not other_platform):
        return saved, ""
    version = image.vllm if image else None
    if saved is None and not contradicted:
        version = version or knowledge.vllm_version
    aside = ""
    if saved is not None and other_platform and not contradicted:
        aside = f"the environment given is of platform {saved.platform}, and the image is for {platform}"
    torch = image.torch if image else None
    return (_of_version(version, platform, torch) if version else None), aside


def _contradiction(image: Image | None, knowledge: Knowledge) -> str:
    """That an image's tag states another vLLM than was given, and what to do; empty if it does not.

    `--vllm-version` is for images whose tag does not say, so a tag that surely names a vLLM needs no word.
    """
    stated = image.stated_vllm if image else None
    if image is None or stated is None:
        return ""
    saved, version = knowledge.environment, knowledge.vllm_version
    if saved is not None and not _is_of(saved.vllm, stated):
        return (
            f"The environment given has vLLM {saved.vllm}, and the image {image} says vLLM {stated}. "
            "Make the file for --environment inside this image, with `tuner env --json`."
        )
    if saved is None and version and image.vllm is None and not _is_of(version, stated):
        return (
            f"--vllm-version says {version}, and the image {image} says vLLM {stated}. "
            "Leave that option out for this image, or give --environment, made inside it."
        )
    return ""


def _is_of(version: str | None, stated: str) -> bool:
    """Whether a version is the one that a tag states, or one of the series that it states, such as 0.19."""
    public = public_version(version)
    return public == public_version(stated) or (stated.count(".") == 1 and public.startswith(f"{stated}."))


def _of_version(version: str, platform: str | None, torch: str | None) -> Environment:
    """An environment of which the vLLM version is known, and platform and torch at most.

    Raises:
        TunerError: the version cannot be read.
    """
    if parse_version(version) is None:
        raise TunerError(f"{version} is not a version of vLLM.", hint="Write it like 0.19.1.", kind=ErrorKind.USAGE)
    where = platform or "unspecified"
    return Environment("", None, version, "vllm", torch, None, None, where, (), None, 0, ())


def read_arguments(path: str, launch: ManifestLaunch) -> tuple[ServeArguments, str]:
    """The arguments of a launch, and what hides others.

    A `--config` file is one that the document set puts where the launch runs, or stands beside the manifest.

    Args:
        path: the manifest; empty: it was sent, and no file is read for it.
        launch: a launch in it.

    Raises:
        TunerError: vLLM would refuse the arguments.
    """
    args = _with_numbers(launch)
    hidden = ""
    file = next((behind for name, behind in pairwise(args) if name == "--config"), None)
    text = "{}"
    if file is not None and file in launch.files:
        text = launch.files[file]
    elif file is not None:
        try:
            text = _config_file(path, file)
        except (OSError, ValueError):
            hidden = f"--config {file}"
    return parse(args, lambda _: text), hidden or _unknown_in_config(launch)


def _unknown_in_config(launch: ManifestLaunch) -> str:
    """The first argument of a compilation config whose value is not written whole here; empty if there is none."""
    for index in sorted(indexes_of_field(launch.args, "compilation_config")):
        if launch.words[index].unknown:
            return launch.words[index].text
    return ""


def _config_file(path: str, file: str) -> str:
    """The text of a file that a manifest names, and may name in malice.

    Args:
        path: the manifest; empty: it was sent.
        file: a path beside it.

    Raises:
        OSError, ValueError: it cannot be read, is not a regular file, not UTF-8, too large, or not on this machine.
    """
    if not path:
        raise ValueError("it lies elsewhere")
    data = read_plain(Path(path).parent / file, MAX_CONFIG_FILE + 1)
    if len(data) > MAX_CONFIG_FILE:
        raise ValueError("too large")
    return data.decode("utf-8")


def _with_numbers(launch: ManifestLaunch) -> list[str]:
    """The arguments, numbers that are not stated replaced."""
    args = list(launch.args)
    for setting in scan(args)[0]:
        last = setting.stop - 1
        if setting.option.kind is Kind.INTEGER and launch.words[last].unknown:
            args[last] = f"{args[last].partition('=')[0]}={SEVERAL}" if setting.start == last else SEVERAL
    return args


def _model(
    launch: ManifestLaunch, arguments: ServeArguments, configs: Path | None, *, sent: bool
) -> tuple[Model | None, str]:
    """The model, or why it cannot be identified; of what was `sent`, from the folder of models alone."""
    name = arguments.serving.hf_config_path or arguments.model
    if name is None:
        return None, NO_MODEL
    if any(
        word.unknown and word.text in {name, f"--model={name}", f"--hf-config-path={name}"} for word in launch.words
    ):
        return None, f"the value of {name} {NOT_WRITTEN}"
    try:
        model = model_in(configs, name) if configs else None
        if model is None:
            find = partial(_model_of_folder, configs) if sent else identify
            model = find(name, revision=arguments.serving.revision)
        remote_code(model, trusted=arguments.serving.trust_remote_code)  # which every look-up reads
    except TunerError as error:
        return None, error.message.rstrip(".").removesuffix(", and offline mode is on")  # which a check always is
    else:
        return model, ""


_Candidate = tuple[Entry, Report, Verdict]
"""A stored entry, its report, and its verdict by the rules of this release."""


def _by_version(subject: Subject, platform: str | None, knowledge: Knowledge) -> tuple[Subject, LookUp]:
    """The stored verdict of this model in this vLLM version, whatever torch; the least safe one of several.

    Of another platform than the image's only on the user's word.
    """
    accepted = {platform, knowledge.accept_platform} if platform else None
    base = base_factors(subject)
    entries = [entry for entry in knowledge.store.of_architecture(subject.model.architecture) if _agrees(entry, base)]
    candidates: list[_Candidate] = []
    for entry in entries:
        if accepted is None or entry.key["platform"] in accepted:
            report, verdict = current_report(knowledge.store, entry)
            candidates.append((entry, report, verdict))
    if not candidates:
        miss = _missed_by_version(subject, platform, {entry.key["platform"] for entry in entries})
        return subject, LookUp(None, None, miss, verified=False)
    entry, report, verdict = min(candidates, key=_precedence)
    torch = subject.environment.torch or entry.key["torch"]
    environment = with_fields(subject.environment, torch=torch, platform=entry.key["platform"])
    return with_fields(subject, environment=environment), LookUp(entry, verdict, report=report, verified=False)


def _precedence(candidate: _Candidate) -> tuple[bool, bool, bool]:
    """What candidates are sorted by: an unsafe verdict first, then one that decides nothing, then an imported one."""
    entry, _, verdict = candidate
    return verdict.word.safe, not verdict.word.unsafe, entry.provenance is not None


def _missed_by_version(subject: Subject, platform: str | None, others: set[str]) -> tuple[Reason, ...]:
    """Why a version alone finds no verdict.

    Args:
        subject: what was looked for.
        platform: the image's; None if it is not known.
        others: platforms for which a verdict is stored.
    """
    what = f"this model in vLLM {subject.environment.vllm}" + (f" on {platform}" if platform else "")
    miss = reason("no_verdict_for", what=what)
    if not others:
        return (miss,)
    names = sorted(others)
    return (miss, reason("stored_on_other_platforms", platforms=" and ".join(names), first=names[0]))


def _agrees(entry: Entry, base: Mapping[str, object]) -> bool:
    keys = ({"plugins": "", **key} for key in (entry.key, base))  # older releases told no plugins apart
    stored, root = ({**key, "vllm": public_version(key.get("vllm"))} for key in keys)
    return set(differences(stored, root)) <= LOOSE

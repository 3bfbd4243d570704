"""Every exported file, run back into an argument list, is the plan's."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from exported import CLUSTER, CONDITIONAL, FORMS, NASTY, PATCHES, UNIFORM, Bench, bench_in
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from manifest_argv import LWS, argv_of, base_deployment, container_argv, expanded, patch_in, patched, pod_of
from msgspec.structs import replace
from ruamel.yaml import YAML

from tuner.cli.inputs import Inputs, Launching, planned
from tuner.exports.choices import Choices, Wrap
from tuner.exports.formats import Format, writer
from tuner.exports.pod import escaped
from tuner.launch.plan import Plan

SHELLS = [Format.ENV, Format.DOCKERFILE]
FILES = {Format.VLLM_YAML, Format.CONFIGMAP}
"""Formats that hold the model and the compilation config alone."""
WHOLE = [form for form in FORMS if form not in FILES | {Format.JSON}]
TEMPLATED = {Format.HELM_PRODUCTION_STACK, Format.KSERVE_LLMINFERENCESERVICE}
"""Formats whose template says something of its own first; then come all arguments but the model."""
PLAIN = ["--max-model-len", "4096", "-tp", "2", "--compilation-config", '{"mode": 3}']
MERGED = {PLAIN[-1], *NASTY[-4:-1]}
"""Arguments that the plan merges into its one compilation config."""
MISREAD = [
    *("y", "n", "Yes", "on", "off", "null", "~", "1e3", "0o17", "0x1F", "1_000", ".5", ".inf", "12:30"),
    *("2026-01-01", "-", "?", ":", "a:", "#b", "!c", "&d", "*e", "@f", "%g", "`h`", "- a", "a: b", "a #b"),
    *("\u2028", "\x07", "\ufeff", "\xa0", "\u200b", "\ud7ff", "\U0010ffff", "\t", "\r\n"),
]
"""Texts that some reader of YAML takes for something else, if they are written bare.

Not here, because kustomize (5.5.0) or the readers of its output have no way for them: U+0085, which it turns into a
blank however it is spelled, `=` and `<<`.
"""
CACHED = ("--cache-root", "/cache/it's $(HERE) $HOME")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Where the launch decides the flag."""
    return bench_in(tmp_path_factory.mktemp("settable"), "flag-live")


def expected(form: str, args: list[str], found: list[str]) -> list[str]:
    """The plan's arguments in the form in which a format has them, for comparison with what was found."""
    if form not in TEMPLATED:
        return args
    own = args[1:]
    if form == Format.HELM_PRODUCTION_STACK and "-tp" in own:  # the chart makes an option of `tensorParallelSize`
        place = own.index("-tp")
        assert found[: len(found) - len(own) + 2][-2:] == ["--tensor-parallel-size", own[place + 1]]
        del own[place : place + 2]
    return [*found[: len(found) - len(own)], *own]


@pytest.mark.parametrize("model", [UNIFORM, CONDITIONAL])
@pytest.mark.parametrize("vllm_args", [[], PLAIN, NASTY], ids=["none", "plain", "nasty"])
@pytest.mark.parametrize("form", WHOLE)
def test_an_export_starts_what_the_plan_says(
    bench: Bench, form: str, vllm_args: list[str], model: str, tmp_path: Path
) -> None:
    """Argument by argument, whatever shells, templates and YAML make of quotes, blanks, dollars and lines."""
    args = bench.launch("--", *vllm_args, model=model)["args"]
    argv = argv_of(form, bench.text(form, "--", *vllm_args, model=model), tmp_path)
    assert argv == expected(form, args, argv)
    written_by_chart = {"-tp"} if form == Format.HELM_PRODUCTION_STACK else set()
    gone = MERGED | written_by_chart
    assert [word for word in vllm_args if word not in argv] == [word for word in vllm_args if word in gone]


def test_what_a_chart_or_template_adds_is_known(bench: Bench, tmp_path: Path) -> None:
    """The two formats whose template starts the server add nothing else to it."""
    chart = argv_of(Format.HELM_PRODUCTION_STACK, bench.text("helm-production-stack", "--", *PLAIN), tmp_path)
    added = ["--host", "0.0.0.0", "--port", "8000"]  # noqa: S104  the chart's
    added += ["--enable-prefix-caching", "--tensor-parallel-size", "2"]
    args = bench.launch("--", *PLAIN)["args"]
    place = args.index("-tp")
    assert chart == [UNIFORM, *added, *args[1:place], *args[place + 2 :]]
    kserve = argv_of(
        Format.KSERVE_LLMINFERENCESERVICE, bench.text("kserve-llminferenceservice", "--", *PLAIN), tmp_path
    )
    assert kserve == ["/mnt/models", "--port", "8000", *args[1:]]


@pytest.mark.parametrize("form", [Format.VLLM_YAML, Format.CONFIGMAP])
def test_a_config_file_and_the_command_line_share_the_launch(bench: Bench, form: str, tmp_path: Path) -> None:
    """The file has model and compilation config, the head names every other argument."""
    words = argv_of(form, bench.text(form, "--", *PLAIN), tmp_path)
    assert words[2:] == ["--max-model-len", "4096", "-tp", "2"]
    config = yaml.safe_load((tmp_path / "serve.yaml").read_text(encoding="utf-8"))
    assert config.pop("model") == UNIFORM
    assert {key: json.loads(value) for key, value in config.items()} == {
        "compilation-config": {"mode": 3, "fast_moe_cold_start": True}
    }


@pytest.mark.parametrize("form", [Format.VLLM_YAML, Format.CONFIGMAP])
def test_arguments_that_no_comment_can_hold_are_not_misquoted(bench: Bench, form: str) -> None:
    """A comment is one line; arguments of several lines are mentioned, and not shown wrongly."""
    text = bench.text(form, "--", *NASTY)
    assert "# the other arguments stay on the command line\n" in text


def test_every_rank_of_a_set_has_the_same_launch(bench: Bench) -> None:
    """Leader and workers differ in their rank alone; the user's arguments come last and win."""
    args = bench.launch("--", *NASTY, "-pp", "2")["args"]
    spec = bench.documents("leaderworkerset", "--", *NASTY, "-pp", "2")[0]["spec"]["leaderWorkerTemplate"]
    leader, worker = (spec[f"{role}Template"]["spec"]["containers"][0] for role in ("leader", "worker"))
    rank = ["--nnodes", "2", "--node-rank", "{}", "--master-addr", LWS["LWS_LEADER_ADDRESS"]]
    rank += ["--distributed-executor-backend", "mp"]
    first, second = ([word.format(number) for word in rank] for number in (0, 1))
    assert container_argv(leader, LWS) == [args[0], *first, *args[1:]]
    assert container_argv(worker, LWS) == [args[0], *second, "--headless", *args[1:]]
    assert spec["size"] == 2


@pytest.mark.parametrize("form", [form for form in CLUSTER if form != Format.CONFIGMAP])
def test_the_cache_root_is_set_and_mounted(bench: Bench, form: str) -> None:
    """Where a cache root is set, the server gets the proof's root below it, and a claim lies at that very path."""
    root = "/cache/it's $(HERE) $HOME"
    document = bench.documents(form, "--cache-root", root)
    container, volumes = parts(form, document)
    named = [
        expanded(variable["value"], {})
        for variable in container.get("env", ())
        if variable["name"] == "VLLM_CACHE_ROOT"
    ]
    below = [value for value in named if value.startswith(f"{root}/tuner-proof/")]
    assert below or (form == Format.WARM_JOB and expanded(container["args"][2], {}) == root)
    mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    claims = {volume["name"]: volume.get("persistentVolumeClaim") for volume in volumes}
    assert claims[mounted[root]]["claimName"].endswith("-cache")


def parts(form: str, documents: list[dict[str, Any]]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The container and the volumes of a manifest, in Kubernetes' words."""
    if form == Format.HELM_PRODUCTION_STACK:
        model = documents[0]["servingEngineSpec"]["modelSpec"][0]
        return {**model, "volumeMounts": model["extraVolumeMounts"]}, model["extraVolumes"]
    pod = documents[0]["spec"]["template"] if form == Format.KSERVE_LLMINFERENCESERVICE else pod_of(form, documents)
    return pod["containers"][-1], pod["volumes"]


@pytest.mark.parametrize("form", [*(form for form in CLUSTER if form != Format.WARM_JOB), *SHELLS])
def test_nothing_is_said_of_a_cache_that_nobody_asked_for(bench: Bench, form: str) -> None:
    """Without a cache root no variable is set and no claim is made; a `true` gets its root in the home folder."""
    text = bench.text(form, model=CONDITIONAL)
    assert "VLLM_CACHE_ROOT" not in text
    assert "persistentVolumeClaim" not in text
    proved = bench.text(form)
    assert "persistentVolumeClaim" not in proved
    assert ("/.cache/vllm/tuner-proof/" in proved) == (form != Format.CONFIGMAP or "VLLM_CACHE_ROOT" in proved)


def test_a_shell_file_exports_the_cache_root(bench: Bench, tmp_path: Path) -> None:
    """The variable reaches a process that the shell starts, as it was given."""
    (tmp_path / "launch.env").write_text(bench.text("env", *CACHED), encoding="utf-8")
    command = ["sh", "-c", ". ./launch.env && printenv VLLM_CACHE_ROOT"]
    assert subprocess.check_output(command, cwd=tmp_path, text=True).startswith(f"{CACHED[1]}/tuner-proof/")


def test_a_dockerfile_sets_the_cache_root(bench: Bench) -> None:
    """In ENV a dollar is escaped, which the builder would expand."""
    assert "ENV VLLM_CACHE_ROOT=\"/cache/it's \\$(HERE) \\$HOME/tuner-proof/" in bench.text("dockerfile", *CACHED)


@pytest.mark.parametrize("form", PATCHES)
def test_a_patch_changes_the_launch_alone(bench: Bench, form: str) -> None:
    """Applied to a Deployment there is: one handler in the probe, the rest of it as it was."""
    patch = patch_in(bench.documents(form, "--cache-root", "/cache"))
    before, after = base_deployment(patch), patched(patch)
    old, new = (one["spec"]["template"]["spec"] for one in (before, after))
    assert old["containers"][0] == new["containers"][0]
    assert new["containers"][1]["image"] == old["containers"][1]["image"]
    assert set(new["containers"][1]["startupProbe"]) == {
        "httpGet",
        "periodSeconds",
        "failureThreshold",
    }
    first, second = new["containers"][1]["env"]
    assert first == {"name": "HF_HOME", "value": "/models"}
    assert second["name"] == "VLLM_CACHE_ROOT"
    assert second["value"].startswith("/cache/tuner-proof/")
    assert [mount["mountPath"] for mount in new["containers"][1]["volumeMounts"]] == ["/models", "/cache"]
    assert after["metadata"]["annotations"]["team"] == "a"


@pytest.mark.parametrize("form", PATCHES)
def test_kustomize_applies_a_patch_as_we_do(bench: Bench, form: str, tmp_path: Path) -> None:
    """The real kustomize, with Go's YAML, gives the Deployment that the merge of these tests gives."""
    if not shutil.which("kubectl"):
        pytest.skip("no kubectl here, whose kustomize this asks")
    text = bench.text(form, "--cache-root", "/cache", "--", *NASTY, "--served-model-name", *MISREAD)
    patch = patch_in(list(yaml.safe_load_all(text)))
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(base_deployment(patch)), encoding="utf-8")
    (tmp_path / "part").mkdir()
    component = "kustomize" in form
    name = "kustomization.yaml" if component else "patch.yaml"
    (tmp_path / "part" / name).write_text(text, encoding="utf-8")
    use = "components: [part]" if component else "patches: [{path: part/patch.yaml}]"
    (tmp_path / "kustomization.yaml").write_text(f"resources: [base.yaml]\n{use}\n", encoding="utf-8")
    process = subprocess.run(["kubectl", "kustomize", tmp_path], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    found = YAML(typ="safe", pure=True).load(process.stdout)  # of YAML 1.2, as Go writes it
    assert unordered(found) == unordered(patched(patch))


def unordered(value: Any) -> Any:
    """The same value without the order of named things, which kustomize puts first where they are new."""
    if isinstance(value, dict):
        return {key: unordered(inner) for key, inner in value.items()}
    if isinstance(value, list):
        named = all(isinstance(one, dict) for one in value)
        return sorted(map(unordered, value), key=lambda one: json.dumps(one, sort_keys=True)) if named else value
    return value


# ---- any argument at all

ARGUMENT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")).filter(
    lambda text: not text.startswith("-")
)


@pytest.fixture(scope="module")
def plan(bench: Bench) -> Plan:
    """A plan whose arguments can be exchanged."""
    environ = {"HOME": "/home/somebody", "HF_HOME": str(bench.folder / "hub"), "HF_HUB_OFFLINE": "1"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environ.items():
            patch.setenv(name, value)
        inputs = Inputs(environment=bench.environment, store=str(bench.store))
        return planned([UNIFORM], inputs, Launching(), environ)


@pytest.mark.parametrize("form", WHOLE)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(words=st.lists(ARGUMENT, min_size=1, max_size=6))
def test_any_argument_survives(plan: Plan, form: str, tmp_path: Path, words: list[str]) -> None:
    """Whatever text an argument is, the server gets that text."""
    args = (UNIFORM, "--served-model-name", *words)
    warms = form == Format.WARM_JOB
    env, root = ({"VLLM_CACHE_ROOT": "/cache"}, "/cache") if warms else ({}, None)
    launch = replace(plan.launch, args=args, env=env, cache_root=root)
    name, _, wrap = form.partition(" --wrap ")
    choices = Choices(image="a:1" if warms else None, wrap=Wrap(wrap) if wrap else None)
    text = writer(name, choices)(replace(plan, launch=launch), None)
    argv = argv_of(form, text, tmp_path)
    assert argv[-len(words) - 1 :] == list(args[1:])
    assert form in TEMPLATED or argv == list(args)


@given(ARGUMENT)
def test_the_expansion_of_the_tests_undoes_ours(text: str) -> None:
    """A doubled dollar is one dollar, and nothing else is touched."""
    assert expanded(escaped(text), {"A": "wrong"}) == text
    assert re.sub(r"\$\$", "$", escaped(text)) == text

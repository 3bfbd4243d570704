"""What is known of the packages that bring vLLM a platform, and what the tool says and writes there."""

import json
from pathlib import Path
from typing import Any

import pytest
from fake_environment import MIXTRAL, SETTABLE, Serving, described, sample, serving_in, tuner
from packaging.version import Version

from rules.platforms import PLUGINS, PlatformPackage, known_plugin, not_read, platform_of, why_not_proved
from rules.releases import NO_FACTS, FlagStatus, flag_status
from rules.report import FlagObservation

ASCEND = PlatformPackage("oot:ascend", "vllm-ascend", "0.19.1rc1")
SPYRE = PlatformPackage("oot:spyre", "vllm-spyre", "1.10.0")
SENDNN = PlatformPackage("oot:sendnn_inference", "sendnn-inference", "2.6.3")
TPU = PlatformPackage("tpu", "tpu-inference", "0.19.0")
ENTRY = "[vllm.platform_plugins]\n{name} = {module}:register\n"
FLAG = "fast_moe_cold_start"


def with_plugin(folder: Path, package: PlatformPackage) -> Serving:
    """An environment of vLLM 0.19.1 with a package that brings a platform."""
    serving = serving_in(folder, SETTABLE | {package.package.replace("-", "_"): package.version})
    module = package.package.replace("-", "_")
    if package.platform == "tpu":
        return serving_in(
            folder.parent / "tpu", SETTABLE | {module: package.version, "libtpu": "0.0.39", "vllm": "0.19.1"}
        )
    name = package.platform.removeprefix("oot:")
    serving.write(f"{module}-{package.version}.dist-info/entry_points.txt", ENTRY.format(name=name, module=module))
    return serving


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda plugin: plugin.package)
def test_every_row_names_what_was_read(plugin: Any) -> None:
    """The first release is older than the last, both are known, and the file lies in the package."""
    assert Version(plugin.first) < Version(plugin.last)
    for version in (plugin.first, plugin.last):
        assert known_plugin(PlatformPackage(plugin.platform, plugin.package, version)) is plugin
    assert plugin.source.startswith(f"{plugin.package.replace('-', '_')}/")
    assert plugin.builds_layers == bool(plugin.replaces)


@pytest.mark.parametrize(
    ("package", "is_known"),
    [
        (ASCEND, True),
        (PlatformPackage("oot:ascend", "vllm-ascend", "0.23.0.post1"), True),
        (PlatformPackage("oot:ascend", "vllm-ascend", "0.30.0rc2"), False),
        (PlatformPackage("oot:ascend", "vllm-ascend", "0.11.0"), False),
        (PlatformPackage("oot:ascend", "vllm-ascend", "0.25.0.dev5"), False),
        (PlatformPackage("oot:ascend", "vllm-ascend", "0.25.0+mine"), False),
        (PlatformPackage("oot:ascend", "vllm-ascend", ""), False),
        (PlatformPackage("oot:ascend", "vllm-ascend", "main"), False),
        (PlatformPackage("oot:ascend", "vllm-hust", "0.19.1"), False),
        (PlatformPackage("oot:spyre", "spyre-inference", "1.10.0"), False),
        ("oot:ascend", False),
    ],
    ids=str,
)
def test_a_release_that_nobody_read_is_not_known(package: PlatformPackage | str, is_known: bool) -> None:
    """A newer release, a build of one's own, and another package with the same platform are not those of the table."""
    assert (known_plugin(package) is not None) == is_known
    assert (flag_status("0.19.1", "2.10.0", package).status is FlagStatus.UNKNOWN) != is_known


def test_the_sentence_names_the_package_and_what_was_read() -> None:
    """Who has a newer release learns which ones are known."""
    newer = PlatformPackage("oot:ascend", "vllm-ascend", "0.30.0rc2")
    assert "vllm-ascend 0.30.0rc2" in not_read(newer)
    assert "0.17.0rc1 to 0.26.0rc1 were read" in not_read(newer)
    assert "that of their-npu 1.0" in not_read(PlatformPackage("oot:npu", "their-npu", "1.0"))
    assert "not vLLM's own" in not_read("oot:npu")


@pytest.mark.parametrize("package", [SPYRE, SENDNN], ids=str)
def test_on_spyre_the_flag_has_no_object(package: PlatformPackage) -> None:
    """Whatever vLLM is installed there, and whatever a probe of a model of vLLM's saw."""
    seen = FlagObservation("field", effective_when_true=True, counter_ran=True)
    for vllm, torch in (("0.19.1", "2.10.0"), ("0.26.0", "2.11.0"), ("0.99.0", None), (None, None)):
        for detected in (None, seen):
            flag = flag_status(vllm, torch, package, detected)
            assert flag.status is FlagStatus.ABSENT
            assert "the flag has no object there" in flag.reason
            assert flag.source.startswith(f"table: {package.package} ")
    assert flag_status("0.19.1", "2.10.0", package).takes_key


@pytest.mark.parametrize(
    ("vllm", "torch", "status"),
    [
        ("0.19.1", "2.10.0", "settable"),
        ("0.18.0", "2.9.0", "settable"),
        ("0.26.0", "2.11.0", "inert"),
        ("0.26.0", None, "unknown"),
        ("0.15.1", "2.9.0", "always_on"),
        ("0.99.0", "2.10.0", "unknown"),
    ],
)
def test_ascend_has_the_flag_of_its_vllm(vllm: str, torch: str | None, status: str) -> None:
    """It calls vLLM's operator as a GPU does, and vLLM decides whether MoE calls are counted."""
    flag = flag_status(vllm, torch, ASCEND)
    assert flag.status == status
    assert ("wraps the counter around" in flag.reason) == (status == "settable")


def test_a_tpu_has_the_flag_of_its_vllm() -> None:
    """Known or not, what brings the platform does not change what vLLM does with the flag."""
    flag = flag_status("0.19.1", "2.10.0", TPU)
    assert (flag.status, flag_status("0.19.1", "2.10.0", "tpu").status) == (FlagStatus.SETTABLE, FlagStatus.SETTABLE)
    assert "tpu-inference 0.19.0 puts a class of its own" in flag.reason
    assert flag_status("0.16.0", "2.9.1", TPU).status is FlagStatus.ABSENT


def test_no_trace_proves_a_launch_on_the_platform_of_a_plugin() -> None:
    """Known or not; on vLLM's own platforms nothing speaks against a proof."""
    assert "wraps the counter around" in why_not_proved(ASCEND)
    assert "tpu-inference 0.19.0" in why_not_proved(TPU)
    for platform in ("tpu", "oot:npu", "oot:a,b", PlatformPackage("oot:ascend", "vllm-ascend", "0.30.0rc2")):
        assert "is not known" in why_not_proved(platform)
    for platform in ("cpu", "cuda", "rocm", "xpu", "unspecified"):
        assert why_not_proved(platform) == ""


def test_two_packages_of_one_platform_are_not_told_apart() -> None:
    """Which of the two becomes active is not known, so the platform keeps its name alone."""
    other = PlatformPackage("oot:ascend", "vllm-hust", "0.19.1")
    assert platform_of("oot:ascend", [ASCEND]) == ASCEND
    assert platform_of("oot:ascend", [ASCEND, other]) == "oot:ascend"
    assert platform_of("oot:ascend,spyre", [ASCEND, SPYRE]) == "oot:ascend,spyre"
    assert platform_of("cpu", []) == "cpu"


@pytest.mark.parametrize(
    ("package", "status"), [(ASCEND, "settable"), (SPYRE, "absent"), (SENDNN, "absent"), (TPU, "settable")], ids=str
)
def test_env_names_the_package_behind_the_platform(tmp_path: Path, package: PlatformPackage, status: str) -> None:
    """In the text, in the document, and read back from it."""
    serving = with_plugin(tmp_path / "env", package)
    text = tuner("env", "--python", serving.python, code=0).out
    assert f"platform of   {package}" in text
    part = tuner("env", "--python", serving.python, "--json", code=0).document["environment"]
    assert part["platform"] == package.platform
    assert part["flag_status"] == status
    assert part["platform_packages"] == [
        {"platform": package.platform, "package": package.package, "version": package.version}
    ]
    saved = tmp_path / "image.json"
    saved.write_text(json.dumps({"environment": part}), encoding="utf-8")
    plan = tuner("plan", "--environment", saved, MIXTRAL, "--json").document
    assert plan["environment"]["flag_status"] == status


def test_a_file_of_an_older_release_says_nothing_of_packages(tmp_path: Path) -> None:
    """The platform keeps its name, and nothing is known of it."""
    serving = with_plugin(tmp_path / "env", SPYRE)
    part = tuner("env", "--python", serving.python, "--json", code=0).document["environment"]
    del part["platform_packages"]
    saved = tmp_path / "image.json"
    saved.write_text(json.dumps({"environment": part}), encoding="utf-8")
    assert tuner("plan", "--environment", saved, MIXTRAL, "--json").document["environment"]["flag_status"] == "unknown"


@pytest.mark.parametrize("package", [ASCEND, TPU], ids=str)
def test_no_true_is_written_on_the_platform_of_a_plugin(tmp_path: Path, package: PlatformPackage) -> None:
    """Not with a proof of that platform, and not with one of the CPU that the user lets stand for it."""
    serving, store = with_plugin(tmp_path / "env", package), tmp_path / "verdicts.sqlite"
    serving.remember(store, MIXTRAL, sample(MIXTRAL, "flag-live"))
    asked = ("plan", "--python", serving.python, "--store", store, MIXTRAL, "--json")
    plan = tuner(*asked).document
    assert plan["verdict"] == "uniform"
    assert plan["launch"]["compilation_config"] == {FLAG: False}
    (why,) = (reason["text"] for reason in plan["reasons"] if "no trace proves" in reason["text"])
    assert f"no trace proves a launch on this platform, because {package}" in why
    assert "replay on such a device" in why


def test_a_proof_of_another_platform_is_not_taken_for_a_plugin(tmp_path: Path) -> None:
    """`--accept-platform` is the user's word on the device, and not on classes that replace vLLM's."""
    store = tmp_path / "verdicts.sqlite"
    serving_in(tmp_path / "cpu", SETTABLE).remember(store, MIXTRAL, sample(MIXTRAL, "flag-live"))
    serving = with_plugin(tmp_path / "env", ASCEND)
    serving.probed_here(sample(MIXTRAL, "flag-live"))  # the same source files lie in both
    asked = ("plan", "--python", serving.python, "--store", store, "--accept-platform", "cpu", MIXTRAL, "--json")
    plan = tuner(*asked).document
    assert plan["verdict"] == "uniform"
    assert plan["launch"]["compilation_config"] == {FLAG: False}


def test_on_spyre_nothing_is_written_and_no_verdict_is_missed(tmp_path: Path) -> None:
    """A missing verdict changes nothing there, so `verdict` and `plan` end with 0."""
    serving = with_plugin(tmp_path / "env", SPYRE)
    plan = tuner("plan", "--python", serving.python, MIXTRAL, "--json", code=0).document
    assert plan["launch"]["compilation_config"] == {}
    assert "the flag has no object there" in plan["reasons"][-1]["text"]
    assert "no object" in tuner("verdict", "--python", serving.python, MIXTRAL, code=0).out


@pytest.mark.parametrize(("package", "outcome"), [(SPYRE, "1 matches"), (ASCEND, "1 could not be judged")], ids=str)
def test_check_asks_for_a_verdict_only_where_the_flag_has_an_object(
    tmp_path: Path, package: PlatformPackage, outcome: str
) -> None:
    """On Spyre a launch without the flag is fine; on Ascend vLLM turns it on by itself."""
    serving = with_plugin(tmp_path / "env", package)
    saved, script = tmp_path / "image.json", tmp_path / "run.sh"
    saved.write_text(tuner("env", "--python", serving.python, "--json", code=0).out, encoding="utf-8")
    script.write_text(f"#!/bin/bash\nvllm serve {MIXTRAL}\n", encoding="utf-8")
    answer = tuner("check", "--environment", saved, script, env={"HOME": str(tmp_path)})
    assert outcome in answer.out + answer.err
    assert ("flag-unproved" in answer.out) == (package is ASCEND)


def test_the_key_of_a_verdict_does_not_hold_the_package(tmp_path: Path) -> None:
    """Stored verdicts of such platforms stay where they are."""
    serving = with_plugin(tmp_path / "env", ASCEND)
    entry, _ = serving.remember(tmp_path / "verdicts.sqlite", MIXTRAL)
    assert entry.key["platform"] == "oot:ascend"
    assert "vllm-ascend" not in json.dumps(entry.key)
    assert described(serving.read(), flag_facts=NO_FACTS).platform_packages == (ASCEND,)

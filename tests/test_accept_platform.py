"""`--accept-platform`: another platform's verdict decides on the user's word alone, and says so everywhere."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_environment import ERNIE, MIXTRAL, SETTABLE, Answer, Serving, model_like, sample, serving_in, tuner
from msgspec.structs import replace

from cache.verdicts.store import VerdictStore
from rules.releases import FlagStatus
from tuner.arguments.serve_arguments import parse
from tuner.launch.plan import Options, flag_of, make_plan
from tuner.model.model import identify
from tuner.verdicts.answer import LookUp
from tuner.verdicts.identity import Subject
from tuner.verdicts.lookup import look_up

WORD = "the verdict was reached on cpu and is used here on your word (--accept-platform cpu)"
GPU = {"vllm": "0.19.1", "torch": "2.10.0+cu128"}
"""Versions of an environment for CUDA; SETTABLE has the same of the CPU."""


@pytest.fixture
def cpu(tmp_path: Path) -> Serving:
    """Where the verdicts were reached."""
    return serving_in(tmp_path / "cpu", SETTABLE | {"torch": "2.10.0+cpu"})


@pytest.fixture
def store(cpu: Serving, store: Path) -> Path:
    """A store with the CPU's verdicts of two models."""
    return cpu.store_of(store, MIXTRAL, ERNIE)


@pytest.fixture
def cuda(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Serving]:
    """Makes environments with a GPU and the same source files; without arguments, one of the same versions."""

    def make(name: str = "cuda", **versions: str) -> Serving:
        serving = serving_in(tmp_path / name, GPU | versions)
        serving.probed_here(sample(MIXTRAL, "flag-live"))
        serving.probed_here(sample(ERNIE, "flag-live"))
        return serving

    assert store.exists()
    monkeypatch.setattr(
        "tuner.environment.environment.nvidia_gpus", lambda: ("NVIDIA H100",)
    )  # a fake: not every machine has one
    return make


def subject(serving: Serving, model: Path = MIXTRAL, **facts: Any) -> Subject:
    """A model in an environment, some of whose facts are changed."""
    return Subject(identify(str(model)), replace(serving.read(), **facts))


def found(store: Path, about: Subject, platform: str | None = "cpu", **options: Any) -> LookUp:
    """What a look-up with the user's word finds."""
    return look_up(VerdictStore(store), about, accept_platform=platform, **options)


def run(store: Path, serving: Serving, *args: object, code: int = 0) -> Answer:
    """A command about this environment and store."""
    command, *rest = args
    return tuner(command, "--python", serving.python, "--store", store, *rest, code=code)


def test_another_platform_decides_nothing_by_itself(store: Path, cuda: Callable[..., Serving]) -> None:
    """Without the user's word a CPU verdict is a miss for CUDA, and the sentence names the platform."""
    missed = found(store, subject(cuda()), None)
    assert (missed.entry, missed.accepted_platform) == (None, None)
    assert missed.miss[0].code == "nearest_differs"
    assert "platform (stored: cpu, here: cuda)" in str(missed.miss[0])


@pytest.mark.parametrize("model", [MIXTRAL, ERNIE], ids=lambda model: model.name)
def test_on_the_users_word_it_decides(store: Path, cpu: Serving, cuda: Callable[..., Serving], model: Path) -> None:
    """Local parts of versions apart, all else must be equal; the look-up tells whose verdict it is."""
    there = found(store, subject(cpu, model))
    hit = found(store, subject(cuda(), model))
    assert (hit.entry, hit.verdict) == (there.entry, there.verdict)
    assert (hit.accepted_platform, hit.verified, hit.miss) == ("cpu", True, ())
    assert hit.verdict is not None
    assert hit.verdict.word.unsafe == (model is ERNIE)


def test_the_own_verdict_comes_first(store: Path, cuda: Callable[..., Serving]) -> None:
    """The word is used only where there is no verdict of this platform."""
    serving = cuda()
    own, _ = serving.remember(store, MIXTRAL)
    hit = found(store, subject(serving))
    assert hit.entry is not None
    assert (hit.entry.digest, hit.accepted_platform) == (own.digest, None)


@pytest.mark.parametrize(
    ("versions", "changes"),
    [
        ({"torch": "2.10.1+cu128"}, "torch (stored: 2.10.0+cpu, here: 2.10.1+cu128)"),
        ({"vllm": "0.19.2"}, "vllm (stored: 0.19.1, here: 0.19.2)"),
    ],
)
def test_other_versions_stay_a_miss(
    store: Path, cuda: Callable[..., Serving], versions: dict[str, str], changes: str
) -> None:
    """Only what stands behind the + is passed over, and the miss says what is not."""
    missed = found(store, subject(cuda(**versions)))
    assert missed.entry is None
    why = missed.miss[1]
    assert (why.code, why.fields) == ("missed_on_platform", {"platform": "cpu"})
    assert why.because is not None
    assert (why.because.code, why.because.fields["changes"]) == ("nearest_differs", changes)


def test_local_parts_count_on_the_own_platform(store: Path, cpu: Serving, tmp_path: Path) -> None:
    """Naming the platform of the environment itself loosens nothing."""
    other = serving_in(tmp_path / "other", SETTABLE | {"torch": "2.10.0+other"})
    other.probed_here(sample(MIXTRAL, "flag-live"))
    missed = found(store, subject(other))
    assert missed.entry is None
    assert (missed.miss[1].code, missed.miss[1].fields) == ("platform_is_own", {"platform": "cpu"})
    assert found(store, subject(cpu)).accepted_platform is None


def test_changed_source_files_stay_a_miss(store: Path, cuda: Callable[..., Serving]) -> None:
    """The files are hashed as they are here, and the one that differs is named."""
    serving = cuda()
    serving.write("vllm/model_executor/models/mixtral.py", "# patched\n")
    missed = found(store, subject(serving))
    assert missed.entry is None
    assert missed.miss[1].code == "missed_on_platform"
    assert "with --accept-platform cpu: of the " in str(missed.miss[1])
    assert "mixtral.py" in str(missed.miss[1])


def test_another_model_stays_a_miss(store: Path, cuda: Callable[..., Serving], tmp_path: Path) -> None:
    """The configuration must be the same."""
    more = model_like(MIXTRAL, tmp_path / "more", num_local_experts=16)
    assert "differs in the model's configuration" in str(found(store, subject(cuda(), more)).miss[1])


def test_a_platform_without_verdicts_is_said(store: Path, cuda: Callable[..., Serving]) -> None:
    """No verdict of that platform is stored: the miss says so, beside why there is none of this one."""
    missed = found(store, subject(cuda()), "rocm")
    assert missed.miss[1].code == "missed_on_platform"
    assert str(missed.miss[1]) == "with --accept-platform rocm: no verdict is stored for MixtralForCausalLM on rocm"


def test_the_latest_of_the_accepted_counts_and_a_local_one_first(store: Path, cuda: Callable[..., Serving]) -> None:
    """Several builds of one version differ behind the + alone: the latest that was probed here is taken."""
    verdicts = VerdictStore(store)
    (first,) = verdicts.of_architecture("MixtralForCausalLM")
    moves = {"imported_from": "x", "imported_at": "2026-11-22T10:00:00+00:00", "command": None}
    later = replace(first, key=first.key | {"torch": "2.10.0+b"}, probed_at="2999-01-01T00:00:00+00:00")
    imported = replace(later, key=first.key | {"torch": "2.10.0"}, provenance=moves)
    verdicts.put(imported)
    about = subject(cuda())
    assert (hit := found(store, about).entry) is not None
    assert hit.digest == first.digest
    verdicts.put(later)
    assert (hit := found(store, about).entry) is not None
    assert hit.digest == later.digest


def test_without_the_files_it_is_not_verified(store: Path, cuda: Callable[..., Serving]) -> None:
    """A saved environment may take it too, and says that no file was compared."""
    elsewhere = subject(cuda(), site=("/image/site-packages",))
    hit = found(store, elsewhere, files_at_hand=False)
    assert (hit.accepted_platform, hit.verified) == ("cpu", False)


def test_the_flag_that_was_detected_elsewhere_says_nothing_here(
    store: Path, cuda: Callable[..., Serving], cpu: Serving
) -> None:
    """What the probe saw of the flag on the CPU is not a fact about CUDA: the table of releases speaks."""
    about = subject(cuda())
    assert flag_of(about, found(store, about)).source.startswith("table: ")
    assert flag_of(subject(cpu), found(store, subject(cpu))).source == "detected by the probe"
    newer = replace(about, environment=replace(about.environment, vllm="0.99.0"))
    assert flag_of(newer, found(store, about)).status is FlagStatus.UNKNOWN


def test_the_word_does_not_count_for_drafts(store: Path, cpu: Serving, cuda: Callable[..., Serving]) -> None:
    """A draft needs a verdict of the launch's own platform."""
    dense = cpu.remember(store, MIXTRAL.parent / "meta-llama--Meta-Llama-3.1-8B", None)[0]
    serving = cuda()
    serving.probed_here(dense.report)
    draft = f'{{"model": "{MIXTRAL.parent / "meta-llama--Meta-Llama-3.1-8B"}", "num_speculative_tokens": 2}}'
    arguments = parse([str(MIXTRAL), "--speculative-config", draft])
    options = Options(False, False, None, False, {"HOME": "/h"}, accept_platform="cpu")
    plan = make_plan(VerdictStore(store), subject(serving), arguments, options)
    assert plan.lookup.accepted_platform == "cpu"
    assert plan.launch.compilation_config == {"fast_moe_cold_start": False}


def test_every_output_repeats_it(store: Path, cuda: Callable[..., Serving]) -> None:
    """Text, document, export and stderr name the other platform."""
    serving, option = cuda(), ("--accept-platform", "cpu")
    for command in ("verdict", "plan"):
        answer = run(store, serving, command, *option, ERNIE)
        assert WORD in answer.out
        assert WORD in answer.err
        document = run(store, serving, command, *option, ERNIE, "--json").document
        assert document["evidence"]["accepted_platform"] == "cpu"
        assert WORD in [warning["text"] for warning in document["warnings"]]
    served = run(store, serving, "serve", *option, "--dry-run", ERNIE)
    assert f"tuner: {WORD}" in served.err.splitlines()
    assert '"fast_moe_cold_start": false' in served.out
    exported = run(store, serving, "export", *option, ERNIE, "--format", "vllm-yaml").out
    assert f"# warning: {WORD}\n" in re.sub(r"\n#   ", " ", exported)  # a long comment goes on in the next line
    assert run(store, serving, "export", *option, ERNIE).document["evidence"]["accepted_platform"] == "cpu"


def test_without_the_word_nothing_is_said(store: Path, cpu: Serving) -> None:
    """The member is there, and null."""
    document = run(store, cpu, "verdict", ERNIE, "--json").document
    assert document["evidence"]["accepted_platform"] is None
    assert "accept-platform" not in run(store, cpu, "plan", ERNIE).out


def test_a_miss_is_explained_by_every_command(store: Path, cuda: Callable[..., Serving]) -> None:
    """That the word did not help is said where the miss is."""
    serving, option = cuda(), ("--accept-platform", "rocm")
    words = "with --accept-platform rocm: no verdict is stored for MixtralForCausalLM on rocm"
    assert words in run(store, serving, "verdict", *option, MIXTRAL, code=3).out
    assert words in run(store, serving, "plan", *option, MIXTRAL, code=3).out
    assert words in run(store, serving, "serve", *option, "--dry-run", MIXTRAL).err
    failed = run(store, serving, "serve", *option, "--on-missing", "fail", "--dry-run", MIXTRAL, code=3)
    assert words in failed.err

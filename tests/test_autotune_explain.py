"""What `tuner cache explain` says of FlashInfer's autotune: hit, miss, mixed, off or not known, and why.

The trees are built by hand after vLLM's source (`tuned_samples.py`): no tree of a real FlashInfer was seen. The name of
one folder is what vLLM 0.32.0 itself computed for a launch.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from archive_samples import ENVIRONMENT
from compiled_samples import made_file
from explain_bench import Bench
from factors_samples import FOLDER, NEW, changed, factors
from fake_environment import install
from msgspec import structs
from tuned_samples import ARCHITECTURE, FLASHINFER, GPU, SHARED, of_rank, ranked, tree_in, tuned

from rules.autotune import OFF, Keeping, Naming, autotune_of
from tuner.arguments.autotune import autotune_is_on, autotune_wish
from tuner.arguments.serve_arguments import parse
from tuner.compile_cache.autotune_launch import OWN_FOLDER, second_start_may_hang
from tuner.compile_cache.autotune_name import autotune_name
from tuner.environment.flashinfer import FlashInfer, flashinfer_of

SAMPLE = json.loads((FOLDER / "autotune-0.32.0.json").read_text(encoding="utf-8"))
"""The hash of each part of a config, and the name that `flashinfer_autotune_cache_hash` of vLLM 0.32.0 made of it."""


def on_cuda(vllm: str = "0.32.0", ranks: int = 1, *, mega: bool = False) -> dict[str, Any]:
    """A document of a launch on an H100."""
    document = changed(factors(NEW), "cuda", "system", "platform")
    document = changed(document, GPU, "system", "gpu")
    document = changed(document, vllm, "system", "vllm")
    document = changed(document, mega, "compiles", "mega")
    parallel = ("config", "parts", "parallel_config", "factors")
    return changed(document, ranks, *parallel, "tensor_parallel_size")


def give(bench: Bench, version: str = FLASHINFER, module: str = "") -> Path:
    """Put a FlashInfer into the serving environment, and give its site folder."""
    (site,) = (bench.folder / "env").glob("lib/python*/site-packages")
    install(site, "flashinfer_python", version)
    made_file(site / "flashinfer/__init__.py", module.encode())
    return site


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A bench whose launch runs on CUDA with one rank, and whose environment has FlashInfer."""
    monkeypatch.delenv(OWN_FOLDER, raising=False)
    bench = Bench(tmp_path, monkeypatch)
    bench.will_say(on_cuda())
    give(bench)
    return bench


def path_of(name: str, version: str = FLASHINFER) -> str:
    """A tree's folder below the cache root."""
    return f"flashinfer_autotune_cache/{version}/{ARCHITECTURE}/{name}"


def tree_for(bench: Bench, files: dict[str, bytes]) -> str:
    """Put a tree under the launch's computed name, and give its path."""
    name = autotune_name(bench.document)
    assert name is not None
    tree_in(bench.root, files, path_of(name))
    return path_of(name)


def answer_of(bench: Bench, *args: str, **env: str) -> dict[str, Any]:
    """What the JSON document says of the tree; the compile cache is empty, so the command ends with 6."""
    answer: dict[str, Any] = bench.ask("--json", *args, code=6, env=env).document["autotune"]
    return answer


# ---- the name


def test_the_name_is_what_vllm_makes_of_the_config() -> None:
    """VLLM 0.32.0 computed it, from a config in which the layout of the KV cache was set already."""
    document = {**on_cuda(), "config": SAMPLE["config"]}
    assert SAMPLE["config"]["parts"]["cache_config"]["factors"]["kv_cache_layout"] == "LBHNC"
    assert autotune_name(document) == SAMPLE["name"]


def test_the_name_is_not_computed_from_a_config_that_does_not_add_up() -> None:
    """A part that was changed, or an unknown one, leads to another hash of the whole: then nothing is said."""
    document = {**on_cuda(), "config": SAMPLE["config"]}
    assert autotune_name(changed(document, "0" * 64, "config", "parts", "model_config", "hash")) is None
    assert autotune_name(changed(document, 17, "config", "parts", "cache_config", "factors", "block_size")) is None


def test_names_of_older_releases() -> None:
    """0.30.0 and 0.31.0 count the cache config as it is; up to 0.29.0 variables and the release count, too."""
    old = on_cuda("0.28.0")
    text = str([old["variables"]["hash"], old["config"]["hash"]])
    assert autotune_name(old) == hashlib.sha256(text.encode()).hexdigest()
    assert autotune_name(on_cuda("0.28.0", mega=True)) is None
    assert autotune_name(on_cuda("0.24.0")) is None
    parts = changed({**on_cuda("0.32.0"), "config": SAMPLE["config"]}, "0.31.0", "system", "vllm")
    row = ["0.31.0", *_row(parts)]
    whole = hashlib.md5(str([row]).encode(), usedforsecurity=False).hexdigest()[:10]
    without = hashlib.md5(str([row[1:]]).encode(), usedforsecurity=False).hexdigest()[:10]
    document = changed(parts, whole, "config", "hash")
    assert autotune_name(document) == hashlib.sha256(without.encode()).hexdigest()


def _row(document: dict[str, Any]) -> list[str]:
    """The hashes of the sample's parts in vLLM's order; parts that are absent are the word None."""
    parts = document["config"]["parts"]
    names = "model cache parallel scheduler device load offload attention engram lora speculative structured_outputs"
    names += " profiler observability compilation kernel kv_transfer ec_transfer aux_output"
    return [parts.get(f"{name}_config", {}).get("hash", "None") for name in names.split()] + ["None"]


# ---- releases and arguments


@pytest.mark.parametrize(
    ("vllm", "keeping", "naming", "has_option"),
    [
        ("0.15.1", Keeping.NOWHERE, None, False),
        ("0.16.0", Keeping.NOWHERE, None, True),
        ("0.24.0", Keeping.NOWHERE, None, True),
        ("0.25.1", Keeping.ONE_RANK, Naming.FACTORS, True),
        ("0.27.0+cu130", Keeping.SHARED, Naming.FACTORS, True),
        ("0.31.0", Keeping.SHARED, Naming.CONFIG, True),
        ("0.33.0", Keeping.RANKED, Naming.LATE_CONFIG, True),
    ],
)
def test_releases(vllm: str, keeping: Keeping, naming: Naming | None, has_option: bool) -> None:
    """What each release keeps, as its source says."""
    span = autotune_of(vllm)
    assert span is not None
    assert (span.keeping, span.naming, span.has_option) == (keeping, naming, has_option)


@pytest.mark.parametrize("vllm", [None, "0.34.0", "0.33.1", "0.13.0", "0.32.1.dev5+gabc1234", "nonsense"])
def test_a_release_that_was_not_read_is_not_known(vllm: str | None) -> None:
    """Nothing follows from its number."""
    assert autotune_of(vllm) is None


@pytest.mark.parametrize(
    ("args", "wish", "on"),
    [
        ([], None, True),
        ([OFF], False, False),
        (["--disable-flashinfer-autotune"], False, False),
        (["--enable_flashinfer_autotune"], True, True),
        ([OFF, "--enable-flashinfer-autotune"], True, True),
        (["-O0"], None, False),
        (["--optimization-level", "0"], None, False),
        (["-O3"], None, True),
        (["-O0", "--enable-flashinfer-autotune"], True, True),
        (["--kernel-config", '{"enable_flashinfer_autotune": false}'], False, False),
        (["--kernel-config", '{"moe_backend": "triton"}'], None, True),
        (["--kernel-config.enable_flashinfer_autotune", "False"], False, False),
    ],
)
def test_what_the_arguments_say(args: list[str], wish: bool | None, on: bool) -> None:
    """The option, either of its opposites, the kernel config, and level 0, which has it off."""
    arguments = parse(["m", *args])
    assert (autotune_wish(arguments), autotune_is_on(arguments)) == (wish, on)


def test_flashinfer_is_read_from_files(bench: Bench, tmp_path: Path) -> None:
    """Its version, and whether it can keep results by itself."""
    (site,) = (bench.folder / "env").glob("lib/python*/site-packages")
    assert flashinfer_of([str(site)]) == FlashInfer(FLASHINFER, has_store=False)
    (site / "flashinfer/__init__.py").write_text("from .v2 import autotune_v2, autotune_v2_reload\n", "utf-8")
    assert flashinfer_of([str(site)]) == FlashInfer(FLASHINFER, has_store=True)
    assert flashinfer_of([str(tmp_path)]) is None


@pytest.mark.parametrize(
    ("vllm", "args", "hangs"),
    [
        ("0.28.0", ["-tp", "2"], True),
        ("0.28.0", [], False),
        ("0.28.0", ["-tp", "2", OFF], False),
        ("0.26.0", ["-tp", "2"], False),
        ("0.32.0", ["-tp", "2"], False),
    ],
)
def test_a_second_start_that_may_hang(vllm: str, args: list[str], hangs: bool, bench: Bench, tmp_path: Path) -> None:
    """Several ranks of 0.27.0 to 0.31.0, with FlashInfer, on CUDA, unless autotune is off."""
    (site,) = (bench.folder / "env").glob("lib/python*/site-packages")
    environment = structs.replace(ENVIRONMENT, vllm=vllm, site=(str(site),))
    arguments = parse(["m", *args])
    assert second_start_may_hang(environment, arguments) is hangs
    assert not second_start_may_hang(structs.replace(environment, site=(str(tmp_path),)), arguments)
    assert not second_start_may_hang(structs.replace(environment, platform="rocm"), arguments)


# ---- answers


def test_a_cpu_has_no_answer(bench: Bench) -> None:
    """There is no FlashInfer: neither text nor document speaks of it."""
    bench.will_say(factors(NEW))
    assert answer_of(bench) is None
    assert "autotune" not in bench.ask(code=6).out


def test_no_tree_is_a_miss(bench: Bench) -> None:
    """It says which FlashInfer it looked for, and which are there."""
    tree_in(bench.root, {of_rank(0): tuned()}, path_of("ab" * 32, "0.6.11.post2"))
    answer = answer_of(bench)
    assert (answer["answer"], answer["path"], answer["advice"]) == ("miss", "", "")
    assert answer["reasons"][0].startswith(f"There is no tree of FlashInfer {FLASHINFER} where this launch looks")
    assert "(those there are of 0.6.11.post2)" in answer["reasons"][0]


def test_a_whole_tree_of_the_computed_name_is_a_hit(bench: Bench) -> None:
    """What was not compared is said."""
    path = tree_for(bench, ranked(1))
    answer = answer_of(bench)
    assert (answer["answer"], answer["path"], answer["advice"]) == ("hit", path, "")
    assert "cuBLAS and cuDNN were not compared" in answer["reasons"][1]
    assert "autotune: hit\n  All ranks find their kernels" in bench.ask(code=6).out


def test_trees_of_other_names_prove_nothing(bench: Bench) -> None:
    """The name is computed late, so that the answer is open; without FlashInfer no more can be known."""
    tree_in(bench.root, ranked(1), path_of("ab" * 32))
    answer = answer_of(bench)
    assert (answer["answer"], answer["name"]) == ("unknown", autotune_name(bench.document))


@pytest.mark.parametrize(
    ("files", "why"),
    [
        (ranked(1), "rank 1 is cold"),
        ({of_rank(0): tuned(), of_rank(1): tuned(9)}, "rank 0 has 4 kernels, and rank 1 has 10"),
        ({of_rank(0): tuned(), of_rank(1): tuned(gpu="NVIDIA B200")}, "differ in gpu"),
    ],
)
def test_a_mixed_tree_is_named(files: dict[str, bytes], why: str, bench: Bench) -> None:
    """What happens, and what to do."""
    bench.will_say(on_cuda(ranks=2))
    path = tree_for(bench, files)
    answer = answer_of(bench)
    assert (answer["answer"], answer["path"]) == ("mixed", path)
    assert why in answer["reasons"][0]
    assert answer["reasons"][1] == "So all ranks measure again."
    assert answer["advice"].startswith("Remove this folder, so that all ranks tune again once")


def test_ranks_on_other_nodes_are_not_missed(bench: Bench) -> None:
    """With several nodes the files of some ranks lie elsewhere."""
    bench.will_say(on_cuda(ranks=2))
    tree_for(bench, ranked(1))
    assert answer_of(bench, "--", "--nnodes", "2")["answer"] == "hit"


def test_stages_of_a_pipeline_may_have_other_kernels(bench: Bench) -> None:
    """Ranks of one stage must have as many."""
    document = on_cuda(ranks=2)
    bench.will_say(changed(document, 2, "config", "parts", "parallel_config", "factors", "pipeline_parallel_size"))
    files = {of_rank(0): tuned(3), of_rank(1): tuned(3), of_rank(2): tuned(8), of_rank(3): tuned(8)}
    path = tree_for(bench, files)
    args = ("--", "--pipeline-parallel-size", "2", "--tensor-parallel-size", "2")
    assert answer_of(bench, *args)["answer"] == "hit"
    (bench.root / path / of_rank(3)).write_bytes(tuned(9))
    assert answer_of(bench, *args)["answer"] == "mixed"


def test_another_gpu_is_a_miss_that_stays(bench: Bench) -> None:
    """FlashInfer refuses the tree, and does not write over it."""
    tree_for(bench, {of_rank(0): tuned(gpu="NVIDIA B200")})
    answer = answer_of(bench)
    assert answer["answer"] == "miss"
    assert answer["reasons"] == [f"FlashInfer refuses the tree: gpu is {GPU} here, and was NVIDIA B200."]
    assert answer["advice"].startswith("Remove this folder")


@pytest.mark.parametrize(
    ("ranks", "files", "answer", "hangs"),
    [
        (1, {SHARED: tuned()}, "hit", False),
        (2, {SHARED: tuned()}, "unknown", True),
        (1, {SHARED: b"{"}, "miss", False),
        (1, ranked(1), "miss", False),
    ],
)
def test_releases_with_one_file(ranks: int, files: dict[str, bytes], answer: str, hangs: bool, bench: Bench) -> None:
    """0.27.0 to 0.31.0 load one file in all ranks; with several a warm one may hang the start."""
    bench.will_say(on_cuda("0.28.0", ranks))
    tree_for(bench, files)
    tree = answer_of(bench)
    assert (tree["answer"], "may hang at a start that finds a warm tree" in tree["advice"]) == (answer, hangs)


@pytest.mark.parametrize(("vllm", "ranks"), [("0.24.0", 1), ("0.26.0", 2)])
def test_what_is_not_kept_advises_to_do_without(vllm: str, ranks: int, bench: Bench) -> None:
    """Each start measures again, so the option is named with what it costs."""
    bench.will_say(on_cuda(vllm, ranks))
    answer = answer_of(bench)
    assert answer["answer"] == "miss"
    assert OFF in answer["advice"]
    assert "slower" in answer["advice"]


def test_a_root_that_cannot_be_written_advises_to_do_without(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is measured there is lost with each start."""
    monkeypatch.setattr("tuner.compile_cache.autotune_launch.os.access", lambda *_: False)
    answer = answer_of(bench)
    assert answer["answer"] == "miss"
    assert "cannot write into the folder" in answer["reasons"][1]
    assert OFF in answer["advice"]


@pytest.mark.parametrize("args", [[OFF], ["-O0"]])
def test_a_launch_without_autotune_needs_no_tree(args: list[str], bench: Bench) -> None:
    """It is off, and nothing is advised."""
    answer = answer_of(bench, "--", *args)
    assert (answer["answer"], answer["advice"]) == ("off", "")


def test_a_flashinfer_with_a_store_of_its_own_is_not_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The results of one rank are left to it in vLLM 0.33.0; those of several ranks lie in the tree."""
    bench = Bench(tmp_path, monkeypatch)
    give(bench, "0.7.4", "from .autotuner import autotune_v2, autotune_v2_reload\n")
    bench.will_say(on_cuda("0.33.0"))
    assert answer_of(bench)["answer"] == "unknown"
    bench.will_say(on_cuda("0.33.0", 2))
    assert answer_of(bench)["answer"] == "miss"


def test_without_flashinfer_nothing_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer is off."""
    bench = Bench(tmp_path, monkeypatch)
    bench.will_say(on_cuda())
    assert answer_of(bench)["answer"] == "off"


def test_a_folder_of_its_own_is_looked_in(bench: Bench, tmp_path: Path) -> None:
    """There a tree is named by its hash alone."""
    name = autotune_name(bench.document)
    tree_in(tmp_path / "own", ranked(1), str(name))
    answer = answer_of(bench, **{OWN_FOLDER: str(tmp_path / "own")})
    assert (answer["answer"], answer["path"]) == ("hit", name)


def test_sentences_fit_a_terminal(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are wrapped, and an option is never cut."""
    bench.will_say(on_cuda("0.26.0", 2))
    monkeypatch.setattr("tuner.text.terminal_width", lambda _=None: 80)
    lines = bench.ask(code=6).out.splitlines()
    sentences = lines[lines.index("autotune: miss") + 1 : -2]
    assert max(map(len, sentences)) <= 80
    assert f"  Where starts must be fast, give {OFF}: nothing is" in sentences


# ---- compared with a warm-up


def test_the_tree_of_the_warm_up_is_a_hit_whatever_its_name(bench: Bench) -> None:
    """Nothing that names it differs, so it is the launch's; a variable counts up to 0.29.0 alone."""
    path = path_of("ab" * 32)
    tree_in(bench.root, ranked(1), path)
    bench.record(entries=(path,))
    bench.will_say(changed(bench.document, "1", "variables", "values", "VLLM_MOE_USE_DEEP_GEMM"))
    assert answer_of(bench)["answer"] == "hit"


@pytest.mark.parametrize("vllm", ["0.28.0", "0.32.0"])
def test_the_factor_that_moves_the_tree_is_named(vllm: str, bench: Bench) -> None:
    """An option that counts in the config makes the warm-up's tree another launch's."""
    bench.will_say(on_cuda(vllm))
    path = path_of("ab" * 32)
    tree_in(bench.root, {SHARED: tuned(), of_rank(0): tuned()}, path)
    bench.record(entries=(path,))
    bench.will_say(changed(bench.document, 128, "config", "parts", "model_config", "factors", "max_model_len"))
    answer = answer_of(bench)
    assert answer["answer"] == "miss"
    assert answer["reasons"] == ["The warm-up's tree has another name, which model_config.max_model_len moved."]


def test_a_variable_moves_the_tree_of_older_releases(bench: Bench) -> None:
    """Up to 0.29.0 variables count."""
    bench.will_say(on_cuda("0.28.0"))
    path = path_of("ab" * 32)
    tree_in(bench.root, {SHARED: tuned()}, path)
    bench.record(entries=(path,))
    bench.will_say(changed(bench.document, "1", "variables", "values", "VLLM_MOE_USE_DEEP_GEMM"))
    assert answer_of(bench)["reasons"] == ["The warm-up's tree has another name, which VLLM_MOE_USE_DEEP_GEMM moved."]


def test_a_warm_up_of_another_release_is_not_compared(bench: Bench) -> None:
    """From 0.30.0 on the release does not count, and the configs of two releases are not compared: not known."""
    path = path_of("ab" * 32)
    tree_in(bench.root, ranked(1), path)
    bench.record(entries=(path,))
    bench.will_say(on_cuda("0.33.0", 1))
    assert answer_of(bench)["answer"] == "unknown"


def test_records_are_unchanged_by_a_tree(bench: Bench) -> None:
    """A record without a tree leaves the computed name to decide."""
    record = bench.record()
    assert structs.asdict(record)["entries"] == ()
    tree_for(bench, ranked(1))
    assert answer_of(bench)["answer"] == "hit"

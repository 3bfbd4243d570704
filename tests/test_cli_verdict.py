"""`tuner verdict` and `tuner verdicts`: what is stored, and why nothing is."""

import os
from pathlib import Path

import pytest
from cache_samples import rewrite
from fake_environment import (
    ERNIE,
    EVIDENCE,
    INERT,
    LLAMA,
    MIXTRAL,
    Serving,
    model_like,
    sample,
    serving_in,
    tuner,
)

from cache.verdicts.store import VerdictStore
from rules.reason import reason
from tuner.model.model import identify
from tuner.verdicts.identity import Subject
from tuner.verdicts.lookup import remember

DOCUMENT = {
    "schema_version",
    "model",
    "environment",
    "verdict",
    "reasons",
    "witness",
    "proof",
    "ladder",
    "launch",
    "warnings",
    "refusal",
    "evidence",
}


def test_a_stored_verdict_is_one_document_with_exit_code_0(serving: Serving, store: Path) -> None:
    """Scripts find the promised keys, the word, the launch it makes and the key of the evidence."""
    entry, _ = serving.remember(store, MIXTRAL)
    document = tuner("verdict", MIXTRAL, "--python", serving.python, "--store", store, "--json", code=0).document
    assert set(document) == DOCUMENT
    assert (document["schema_version"], document["verdict"], document["witness"]) == (2, "uniform", None)
    assert document["model"]["name"] == str(MIXTRAL)
    assert document["model"]["architecture"] == "MixtralForCausalLM"
    assert document["environment"]["flag_status"] == "settable"
    assert document["launch"]["compilation_config"] == {"fast_moe_cold_start": True}
    evidence = document["evidence"]
    assert (evidence["key"], evidence["coverage"], evidence["sources_verified"]) == (entry.digest, "trace", True)


def test_an_unsafe_verdict_shows_its_witness_and_is_no_error(serving: Serving, store: Path) -> None:
    """ERNIE's two orders are in the document whole, and readable side by side in the text."""
    serving.remember(store, ERNIE)
    where = ("--python", serving.python, "--store", store)
    document = tuner("verdict", ERNIE, *where, "--json", code=0).document
    witness = document["witness"]
    assert document["verdict"] == "conditional"
    assert witness["executed"] != witness["registered"][: len(witness["executed"])]
    text = tuner("verdict", ERNIE, *where, code=0).out
    assert "1.mlp.vision_experts  2.mlp.text_experts   <- differs" in text


@pytest.mark.parametrize(("model", "said"), [(MIXTRAL, "uniform"), (LLAMA, "no_moe")])
def test_the_text_names_model_verdict_reasons_and_evidence(
    serving: Serving, store: Path, model: Path, said: str
) -> None:
    """A person reads the verdict with what it rests on."""
    serving.remember(store, model)
    out = tuner("verdict", model, "--python", serving.python, "--store", store, code=0).out
    labels = [line.split()[0] for line in out.splitlines() if not line.startswith(" ")]
    evidence = [label for label in EVIDENCE if label != "proofs" or model == MIXTRAL]
    assert labels == ["model", "verdict", "reasons", *evidence]
    assert f"verdict       {said}\n" in out
    assert "source files unchanged since" in out


def test_a_miss_is_a_document_with_a_null_verdict_and_exit_code_3(serving: Serving, store: Path) -> None:
    """Nothing stored is an answer, and no store is made by looking."""
    document = tuner("verdict", MIXTRAL, "--python", serving.python, "--store", store, "--json", code=3).document
    assert set(document) == DOCUMENT
    assert (document["verdict"], document["evidence"], document["witness"]) == (None, None, None)
    assert document["reasons"][0] == reason("no_verdict_for", what="MixtralForCausalLM").part()
    assert not store.exists()
    text = tuner("verdict", MIXTRAL, "--python", serving.python, "--store", store, code=3).out
    assert text.endswith(f"next          tuner probe --python {serving.python} --store {store} {MIXTRAL}\n")


def test_a_miss_names_the_factors_that_differ(serving: Serving, store: Path, tmp_path: Path) -> None:
    """The nearest verdict is of another vLLM and torch, and the text says so."""
    serving.remember(store, MIXTRAL)
    other = serving_in(tmp_path / "other", INERT)
    out = tuner("verdict", MIXTRAL, "--python", other.python, "--store", store, code=0).out
    assert "torch (stored: 2.10.0, here: 2.13.0); vllm (stored: 0.19.1, here: 0.32.0)" in out


def test_a_verdict_does_not_outlive_its_source_files(serving: Serving, store: Path) -> None:
    """A patched file of the model ends the match, and is named."""
    entry, _ = serving.remember(store, MIXTRAL)
    serving.write("vllm/model_executor/models/mixtral.py", "# patched\n")
    out = tuner("verdict", MIXTRAL, "--python", serving.python, "--store", store, code=3).out
    assert f"of the {len(entry.sources)} source files behind the stored verdict 1 differ here, first vllm/" in out
    assert "mixtral.py" in out


def test_a_changed_configuration_is_another_model(serving: Serving, store: Path, tmp_path: Path) -> None:
    """More experts need a verdict of their own; a training setting does not."""
    serving.remember(store, MIXTRAL)
    where = ("--python", serving.python, "--store", store)
    more = model_like(MIXTRAL, tmp_path / "more", num_local_experts=16)
    assert "differs in the model's configuration" in tuner("verdict", more, *where, code=3).out
    tuner("verdict", model_like(MIXTRAL, tmp_path / "trained", router_aux_loss_coef=0.5), *where, code=0)


@pytest.mark.parametrize("option", [["--model-impl", "transformers"], ["--trust-remote-code"]])
def test_another_way_to_build_the_model_is_a_miss(
    serving: Serving, store: Path, tmp_path: Path, option: list[str]
) -> None:
    """A verdict about vLLM's own class says nothing of the Transformers backend or of remote code."""
    model = model_like(MIXTRAL, tmp_path / "model")
    (model / "modeling_x.py").write_text("pass\n")
    serving.remember(store, model, sample(MIXTRAL, "flag-live"))
    document = tuner("verdict", model, "--python", serving.python, "--store", store, *option, "--json", code=3).document
    assert document["launch"]["args"][: 1 + len(option)] == [str(model), *option]


def test_code_of_the_models_own_that_ran_is_named(serving: Serving, store: Path, tmp_path: Path) -> None:
    """A verdict that rests on trusted code says so, with the digest of that code; any other says that none ran."""
    model = model_like(MIXTRAL, tmp_path / "model")
    (model / "modeling_x.py").write_text("pass\n")
    where = ("--python", serving.python, "--store", store)
    serving.remember(store, model, sample(MIXTRAL, "flag-live"))
    assert tuner("verdict", model, *where, "--json", code=0).document["evidence"]["remote_code"] is None
    assert "own code" not in tuner("verdict", model, *where, code=0).out
    subject = Subject(identify(str(model)), serving.read(), trust_remote_code=True)
    remember(VerdictStore(store), subject, serving.probed_here(sample(MIXTRAL, "flag-live")))
    trusted = (*where, "--trust-remote-code")
    digest = tuner("verdict", model, *trusted, "--json", code=0).document["evidence"]["remote_code"]
    assert len(digest) == 64
    output = tuner("verdict", model, *trusted, code=0).out
    assert f"the model's own code ran (--trust-remote-code), {digest[:12]}" in output


@pytest.mark.parametrize("place", ["option", "TUNER_STORE", "XDG_DATA_HOME", "HOME"])
def test_the_store_is_found_where_it_is_promised(serving: Serving, tmp_path: Path, place: str) -> None:
    """The option, then TUNER_STORE, then the XDG data folder, then the home folder."""
    inside = "vllm-moe-tuner/verdicts.sqlite"
    paths = {"XDG_DATA_HOME": tmp_path / inside, "HOME": tmp_path / ".local/share" / inside}
    path = paths.get(place, tmp_path / "mine.sqlite")
    serving.remember(path, MIXTRAL)
    args = ["--store", str(path)] if place == "option" else []
    env = {} if place == "option" else {place: str(path if place == "TUNER_STORE" else tmp_path)}
    tuner("verdict", MIXTRAL, "--python", serving.python, *args, env=env, code=0)


def test_a_saved_environment_stands_in_for_the_real_one(serving: Serving, store: Path, tmp_path: Path) -> None:
    """`tuner env --json` from an image finds the same verdict, shown as not verified against source files."""
    serving.remember(store, MIXTRAL)
    saved = tmp_path / "environment.json"
    saved.write_text(tuner("env", "--python", serving.python, "--json", code=0).out)
    where = ("--environment", saved, "--store", store)
    document = tuner("verdict", MIXTRAL, *where, "--json", code=0).document
    assert (document["verdict"], document["evidence"]["sources_verified"]) == ("uniform", False)
    assert "source files not at hand, not compared" in tuner("verdict", MIXTRAL, *where, code=0).out


def test_verdicts_are_listed_shown_and_forgotten(serving: Serving, store: Path) -> None:
    """The key that `list` shows leads through `show` and `forget`, and then to nothing."""
    entries = {model: serving.remember(store, model)[0] for model in (MIXTRAL, ERNIE, LLAMA)}
    at = ("--store", store)
    listed = tuner("verdicts", "list", *at, code=0).out.splitlines()
    heads = "KEY VERDICT ARCHITECTURE VLLM TORCH PLATFORM PROBED MODEL HOST ORIGIN"
    assert listed[0].split() == heads.split()
    row = next(line for line in listed if "conditional" in line)
    assert row.split()[-4:-2] == [ERNIE.name, os.uname().nodename]
    key = next(line.split()[0] for line in listed if "conditional" in line)
    assert entries[ERNIE].digest.startswith(key)
    output = tuner("verdicts", "show", key, *at, code=0).out
    assert "architecture  Ernie4_5_VLMoeForConditionalGeneration" in output
    assert f"model         {ERNIE.name}, in {ERNIE}, on {os.uname().nodename}" in output
    assert "<- differs" in output
    assert tuner("verdicts", "forget", key, *at, code=0).out == f"forgotten: {entries[ERNIE].digest}\n"
    assert len(tuner("verdicts", "list", *at, code=0).out.splitlines()) == 3
    assert "No stored verdict" in tuner("verdicts", "show", key, *at, code=3).err
    assert "No stored verdict" in tuner("verdicts", "forget", key, *at, code=3).err
    assert "no verdict is stored" in tuner("verdict", ERNIE, "--python", serving.python, *at, code=3).out


def test_stored_verdicts_are_documents_too(serving: Serving, store: Path) -> None:
    """`--json` gives the keys, the whole entry, and the digest that is gone."""
    entry, _ = serving.remember(store, MIXTRAL)
    at = ("--store", store, "--json")
    (row,) = tuner("verdicts", "list", *at, code=0).document["verdicts"]
    assert (row["key"], row["verdict"], row["factors"]) == (entry.digest, "uniform", entry.key)
    origin = {"name": MIXTRAL.name, "file": str(MIXTRAL), "host": os.uname().nodename}
    assert row["origin"] == origin
    document = tuner("verdicts", "show", entry.digest[:8], *at, code=0).document
    assert (document["schema_version"], document["digest"]) == (2, entry.digest)
    assert (document["key"], document["report"], document["origin"]) == (entry.key, entry.report, origin)
    gone = tuner("verdicts", "forget", entry.digest[:8], *at, code=0).document
    assert gone == {"schema_version": 2, "forgotten": entry.digest}
    assert tuner("verdicts", "list", *at, code=0).document == {"schema_version": 2, "verdicts": []}


@pytest.mark.parametrize("command", ["show", "forget"])
@pytest.mark.parametrize("key", ["abc", "not a key", "0123456789"])
def test_a_key_that_leads_nowhere_is_one_sentence(store: Path, command: str, key: str) -> None:
    """Too short, not hexadecimal, or unknown: said on stderr, with a document for scripts."""
    answer = tuner("verdicts", command, key, "--store", store, "--json", code=3)
    assert answer.document["error"]["message"] in answer.err
    assert not store.exists()


def test_a_report_of_another_release_does_not_hide_the_list(serving: Serving, store: Path) -> None:
    """A stored report that the current rules cannot read keeps the verdict it was given."""
    entry, _ = serving.remember(store, MIXTRAL)
    rewrite(store, entry.digest, report={"result": "of another format"}, rules="of another release")
    assert "uniform" in tuner("verdicts", "list", "--store", store, code=0).out
    answer = tuner("verdict", MIXTRAL, "--python", serving.python, "--store", store, "--json", code=1)
    assert answer.document["error"]["kind"] == "report"
    assert "the probe report is damaged" in answer.err


def test_an_empty_store_says_what_fills_it(store: Path) -> None:
    """A head without rows would say nothing."""
    listed = tuner("verdicts", "list", "--store", store, code=0)
    assert listed.out == ""
    assert f"No verdict is stored. `tuner probe MODEL --store {store}` makes one." in " ".join(listed.err.split())


def test_an_entry_of_an_older_release_does_not_hide_the_list(serving: Serving, store: Path) -> None:
    """Its verdict holds reasons as sentences, which is another shape: it is listed as unreadable, beside the others."""
    old, _ = serving.remember(store, MIXTRAL)
    serving.remember(store, ERNIE)
    verdict = old.verdict | {"reasons": ["each pass ran in order"]}
    rewrite(store, old.digest, verdict=verdict, report={"recording": "named"}, rules="of another release")
    listed = tuner("verdicts", "list", "--store", store, code=0)
    words = {line.split()[2]: line.split()[1] for line in listed.out.splitlines()[1:]}
    assert words["MixtralForCausalLM"] == "unreadable"
    assert words["Ernie4_5_VLMoeForConditionalGeneration"] == "conditional"
    assert "This release cannot read 1 entry" in listed.err
    rows = tuner("verdicts", "list", "--store", store, "--json", code=0).document["verdicts"]
    assert [row["verdict"] for row in rows if row["key"] == old.digest] == [None]
    assert tuner("verdicts", "show", old.digest[:12], "--store", store, code=1).out == ""


def test_a_damaged_verdict_is_named_and_can_be_forgotten(serving: Serving, store: Path) -> None:
    """Damage is an error that says which record, never a miss and never a verdict."""
    entry, _ = serving.remember(store, MIXTRAL)
    rewrite(store, entry.digest, verdict={"word": "excellent"})
    answer = tuner("verdict", MIXTRAL, "--python", serving.python, "--store", store, code=1)
    assert f"The stored verdict {entry.digest[:12]} is damaged" in answer.err
    tuner("verdicts", "forget", entry.digest[:12], "--store", store, code=0)

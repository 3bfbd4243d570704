"""Launch settings that the probe of a model did not use: which are covered, which were seen to be unsafe, and why.

A setting is covered by a rule (`rules.assumptions`), or because the model was built and run with it and judged safe.
What was seen to be unsafe stands against any rule. Several settings are covered if each of them is.
"""

from collections.abc import Sequence

from rules.assumptions import COVERED
from rules.verdict import Verdict, Word

SHOWN_BY: dict[str, tuple[str, ...]] = {
    "enable_lora": ("lora",),
    "enable_eplb": ("eplb",),
    "expert_parallel": ("expert_parallel",),
    "kv_sharing_fast_prefill": ("kv_sharing_fast_prefill",),
    "pipeline_parallel": ("pipeline_first", "pipeline_middle", "pipeline_last"),
}
"""Setting of a launch -> the variants of a probe that show it; all of them must be safe."""
DRAFT = "speculative_draft"
"""The variant in which the model's own draft ran beside it. A launch may bring another, so it covers none."""


def seen_unsafe(verdict: Verdict, settings: Sequence[str]) -> str | None:
    """What was observed of the first setting under which a pass was seen that counting would resolve wrongly."""
    for setting in settings:
        for variant in SHOWN_BY.get(setting, ()):
            word = word_of(verdict, variant)
            if word is not None and word.unsafe:
                return f"with {named(setting, variant)} the verdict is {word}"
    return None


def not_covered(verdict: Verdict, settings: Sequence[str]) -> tuple[str, ...]:
    """Why settings are not covered: a few words for each that is not, in the order given."""
    left = [setting for setting in dict.fromkeys(settings) if not _covered(verdict, setting)]
    untried = [setting for setting in left if not _known(verdict, setting)]
    said = [f"the probe did not use {', '.join(untried)}"] if untried else []
    return (*said, *(_why_not(verdict, setting) for setting in left if setting not in untried))


def word_of(verdict: Verdict, variant: str) -> Word | None:
    """The word for a variant; None if it has none."""
    word = verdict.variants.get(variant)
    return None if word is None else Word(word)


def named(setting: str, variant: str) -> str:
    """A setting, and the variant that shows it where that has another name."""
    return setting if variant in setting else f"{setting} ({variant})"


def _covered(verdict: Verdict, setting: str) -> bool:
    words = [word_of(verdict, variant) for variant in SHOWN_BY.get(setting, ())]
    if any(word is not None and word.unsafe for word in words):
        return False
    return setting in COVERED or (bool(words) and all(word is not None and word.safe for word in words))


def _known(verdict: Verdict, setting: str) -> bool:
    """Whether the verdict says anything of the setting."""
    return any(name in {*verdict.variants, *verdict.variant_reasons} for name in SHOWN_BY.get(setting, ()))


def _why_not(verdict: Verdict, setting: str) -> str:
    """The first variant that keeps a setting from being covered, and what was found of it."""
    words = {variant: word_of(verdict, variant) for variant in SHOWN_BY[setting]}
    variant, word = next((name, word) for name, word in words.items() if word is None or not word.safe)
    if word is None:
        return f"{named(setting, variant)} {verdict.variant_reasons.get(variant, 'was not tried')}"
    reason = verdict.variant_reasons.get(variant)
    return f"with {named(setting, variant)} the verdict is {word}" + (f": {reason}" if reason else "")

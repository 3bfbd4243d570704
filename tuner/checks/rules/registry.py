"""All rules of `tuner check`. A new rule is one line here, one file beside, and one page in `docs/rules/`."""

from tuner.checks.rules import (
    arguments_hidden,
    arguments_refused,
    cache_dir_shared,
    cache_on_emptydir,
    compiled_though_frozen,
    environment_contradicts_image,
    file_unreadable,
    flag_contradicts_verdict,
    flag_left_on,
    flag_unproved,
    image_unpinned,
    key_unknown,
    keys_dropped,
    launch_unproved,
    model_unknown,
    no_verdict,
    startup_probe_short,
    true_beside_draft,
    unsafe_release,
    version_unknown,
)
from tuner.checks.rules.rule import Rule

RULES: tuple[Rule, ...] = (
    flag_contradicts_verdict.RULE,
    flag_left_on.RULE,
    true_beside_draft.RULE,
    compiled_though_frozen.RULE,
    unsafe_release.RULE,
    key_unknown.RULE,
    arguments_refused.RULE,
    flag_unproved.RULE,
    keys_dropped.RULE,
    cache_dir_shared.RULE,
    cache_on_emptydir.RULE,
    image_unpinned.RULE,
    startup_probe_short.RULE,
    no_verdict.RULE,
    launch_unproved.RULE,
    model_unknown.RULE,
    version_unknown.RULE,
    environment_contradicts_image.RULE,
    arguments_hidden.RULE,
    file_unreadable.RULE,
)
"""In the order in which SARIF lists them."""

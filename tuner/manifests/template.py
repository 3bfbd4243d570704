"""Values that another program puts into a manifest before it is used: `{{…}}` of Argo, Jinja and Go's templates.

Argo CD's ApplicationSet and Argo Workflows fill them in (argo-cd.readthedocs.io, "Templates";
argo-workflows.readthedocs.io, "Workflow Variables"), so that what stands there is the name of a value.
"""

from collections.abc import Sequence
from dataclasses import replace

from tuner.manifests.launch import Argument, ManifestLaunch

_BEGIN, _END = "{{", "}}"


def with_unknown_values(launch: ManifestLaunch) -> ManifestLaunch:
    """The launch with the arguments unknown that a template fills in, and hidden where it may fill in several."""
    if not any(_BEGIN in word.text for word in launch.words):
        return launch
    words = tuple(replace(word, unknown=word.unknown or _BEGIN in word.text) for word in launch.words)
    return replace(launch, words=words, hidden=launch.hidden or _hidden_by(words))


def _hidden_by(words: Sequence[Argument]) -> str:
    """The first word that may stand for options; empty if there is none. Behind an option it is the option's value."""
    before = ""
    for index, word in enumerate(words):
        is_value = index == 0 or (before.startswith("-") and "=" not in before)
        is_whole = _END in word.text  # a shell splits one that holds spaces
        if _BEGIN in word.text and not (is_whole and (is_value or not word.text.startswith(_BEGIN))):
            return word.text if is_whole else f"{_BEGIN}…{_END}"
        before = word.text
    return ""

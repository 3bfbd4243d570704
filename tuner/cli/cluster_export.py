"""`tuner export` of what has no model: the service and a policy, for a cluster."""

from pathlib import Path

from rules.errors import ErrorKind, TunerError
from tuner.exports.choices import Choices, ClusterChoices, ClusterFormat
from tuner.exports.cluster import MAX_BUNDLE, cluster_text
from tuner.exports.formats import Format
from tuner.untrusted.files import read_plain


def refuse_service_options(form: str, namespace: str | None, ca_bundle: Path | None) -> None:
    """Refuse options of the service with another format.

    Raises:
        TunerError: one is given.
    """
    if (namespace or ca_bundle) and form not in set(ClusterFormat):
        problem = f"The format {form} has no use for --namespace and --ca-bundle."
        raise _usage(problem, f"They are for: {ClusterFormat.SERVICE}.")


def planned_model(form: str, model: str | None) -> str:
    """The model of a format that is written from a plan.

    Raises:
        TunerError: it is missing.
    """
    if model is None and form in set(Format):
        raise _usage(f"The format {form} needs a model.", "Name MODEL first.")
    return model or ""  # the writer names the formats that there are


def cluster_export(
    form: ClusterFormat, model: str | None, choices: Choices, namespace: str | None, ca_bundle: Path | None
) -> str:
    """The manifests of a format that has no model.

    Raises:
        TunerError: a model or an option of a launch was given, or a choice cannot be used.
    """
    if model is not None or choices != Choices(choices.image, choices.name):
        problem = f"The format {form} has no use for a model and options of its launch."
        raise _usage(problem, "It takes --image, --name, --namespace and --ca-bundle.")
    try:
        pem = read_plain(ca_bundle, MAX_BUNDLE) if ca_bundle else None
    except OSError as error:
        raise _usage(f"{ca_bundle} cannot be read: {error.strerror}.", "Name the authority's ca.crt.") from None
    return cluster_text(form, ClusterChoices(choices.image, choices.name, namespace, pem))


def _usage(problem: str, hint: str) -> TunerError:
    return TunerError(problem, hint=hint, kind=ErrorKind.USAGE)

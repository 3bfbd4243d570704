"""Options of vLLM that carry a secret: named where a file would hold them, masked where a launch is recorded."""

import pytest
from fake_environment import MIXTRAL, Serving, tuner

from cache.secrets import SECRET_OPTIONS, redacted, secrets_in, without_keys
from tuner.exports.formats import Format

VALUE = "open-sesame"


@pytest.mark.parametrize("option", SECRET_OPTIONS)
@pytest.mark.parametrize("spelling", ["{0} {1}", "{0}={1}", "{2} {1}", "{3}={1}"])
def test_every_spelling_of_a_secret_is_seen(option: str, spelling: str) -> None:
    """With dashes and underscores, whole and cut short, with the value behind it or in the same argument."""
    underscored = "--" + option.removeprefix("--").replace("-", "_")
    args = ["m", *spelling.format(option, VALUE, underscored, option[:-1]).split(), "--port", "1"]
    assert secrets_in(args) == [option]
    assert VALUE not in " ".join(without_keys(args))
    assert without_keys(args)[-2:] == ["--port", "1"]


@pytest.mark.parametrize(
    "args", [["--hf-token"], ["--hf-token", "--port", "1"], ["--ssl-keyfile", "a.key"], ["--api-server-count", "2"]]
)
def test_what_carries_no_secret_is_not_named(args: list[str]) -> None:
    """`--hf-token` alone asks for the stored token, and the path of a key is not a key."""
    assert secrets_in(["m", *args]) == []


@pytest.mark.parametrize("option", SECRET_OPTIONS)
def test_a_secret_in_a_log_is_masked(option: str) -> None:
    """As vLLM and shells write it."""
    assert VALUE not in redacted(f"vllm serve m {option} {VALUE} --port 1")
    assert VALUE not in redacted(f"['{option}', '{VALUE}']")


@pytest.mark.parametrize("form", [Format.JSON, Format.VLLM_YAML, Format.ENV, Format.DOCKERFILE, Format.CONFIGMAP])
def test_an_export_warns_of_each_secret(serving: Serving, store: object, form: Format) -> None:
    """On stderr, for every format, with what to do instead; of the options that this vLLM has."""
    options = [option for option in SECRET_OPTIONS if option != "--ssl-keyfile-password"]
    words = [word for option in options for word in (option, VALUE)]
    place = ["--python", serving.python, "--store", store, "--format", form, "--name", "n"]
    place = place if form is Format.CONFIGMAP else place[:-2]
    answer = tuner("export", *place, MIXTRAL, "--", *words)
    for option in options:
        assert f"the arguments hold a secret ({option}); {SECRET_OPTIONS[option][1]}" in answer.err
    assert VALUE not in answer.err

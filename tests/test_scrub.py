"""Secrets: which variables are kept from a worker, and what is masked in text that goes out."""

import pytest
from fuzz.limit import limited
from hypothesis import given
from hypothesis import strategies as st

from cache.secrets import MASK, is_refused, is_withheld, redacted, redacted_values, secret_values, without_secrets
from tuner.processes.log_tail import log_tail

VARIABLES = {
    "HF_TOKEN": "hf_x",
    "HUGGING_FACE_HUB_TOKEN": "x",
    "OPENAI_API_KEY": "x",
    "VLLM_API_KEY": "x",
    "SERVICE_APIKEY": "x",
    "AWS_ACCESS_KEY_ID": "x",
    "AWS_SESSION_TOKEN": "x",
    "AWS_PROFILE": "x",
    "S3_SECRET_ACCESS_KEY": "x",
    "AZURE_CLIENT_ID": "x",
    "GOOGLE_APPLICATION_CREDENTIALS": "/x.json",
    "GITHUB_ACTOR": "x",
    "KUBECONFIG": "/x",
    "SSH_AUTH_SOCK": "/x",
    "PGPASSWORD": "x",
    "DB_PASSWORD1": "x",
    "API_TOKEN2": "x",
    "MINIO_SECRETKEY": "x",
    "S3_ACCESSKEY": "x",
    "HF_TOKENFILE": "/x",
    "db_password": "x",
    "SENTRY_DSN": "x",
    "SLACK_WEBHOOK": "x",
    "COMPOSER_AUTH": "{}",
    "NPM_AUTHTOKEN": "x",
    "GH_PAT": "x",
    "PIP_INDEX_URL": "https://me:pw@index.example/simple",
    "https_proxy": "http://me:pw@proxy:3128",
    "NOTE": "use hf_abcdefghijklmnopqrst",
}
KEPT = {
    "PATH": "/usr/bin",
    "HOME": "/home/me",
    "PYTHONPATH": "/x",
    "LD_LIBRARY_PATH": "/x",
    "TOKENIZERS_PARALLELISM": "false",
    "VLLM_SHARED_EXPERTS_STREAM_TOKEN_THRESHOLD": "256",
    "VLLM_MAX_TOKENS_PER_EXPERT_FP4_MOE": "163840",
    "VLLM_ENABLE_PREGRAD_PASSES": "1",
    "VLLM_USE_FASTOKENS": "1",
    "HF_HOME": "/x",
    "HF_ENDPOINT": "https://hub.example",
    "CUDA_VISIBLE_DEVICES": "0",
    "ASCEND_RT_VISIBLE_DEVICES": "0",
    "SOME_PLUGIN": "on",
    "KEYBOARD": "us",
    "EMPTY_TOKEN": "",
}


def test_variables_with_secrets_are_left_out() -> None:
    """By their name or by what their value looks like; what a platform, a plugin or vLLM reads stays."""
    assert without_secrets(VARIABLES | KEPT) == KEPT


@pytest.mark.parametrize(
    ("name", "stops_an_archive"),
    [
        *dict.fromkeys(["VLLM_API_KEY", "HF_TOKEN", "S3_SECRET_ACCESS_KEY", "PGPASSWORD", "db_password"], True).items(),
        *dict.fromkeys(["HF_TOKEN_PATH", "CACHE_KEY", "AWS_PROFILE", "GITHUB_ACTOR", "COMPOSER_AUTH"], False).items(),
    ],
)
def test_more_is_withheld_than_stops_an_archive(name: str, stops_an_archive: bool) -> None:
    """Two rules, because a wrong guess costs a variable here and an archive there."""
    assert is_withheld(name, "a value")
    assert is_refused(name) is stops_an_archive


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://me:pw@host/x", "https://***@host/x"),
        ("git+ssh://tok3n@host:22/x", "git+ssh://***@host:22/x"),
        ("token hf_abcdefghijklmnopqrstuvwxyz0123456789.", "token ***."),
        ("sk-proj-abcdefghijklmnop", "***"),
        ("ghp_abcdefghijklmnopqrstuvwxyz0123456789", "***"),
        ("AKIAIOSFODNN7EXAMPLE", "***"),
        ("Authorization: Bearer abc", "Authorization: ***"),
        ("'authorization': 'Basic dXNlcjpwdw=='", "'authorization': '***'"),
        ("bearer abcdefghijklmnop", "bearer ***"),
        ("HF_TOKEN=abcdefgh next", "HF_TOKEN=*** next"),
        ("{'api_key': 'abcdefgh', 'x': 1}", "{'api_key': '***', 'x': 1}"),
        ("password: hunter2hunter2", "password: ***"),
        ("['serve', '--api-key', 'abc']", "['serve', '--api-key', '***']"),
        ("--api-key=abc --port 1", "--api-key=*** --port 1"),
        ("eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl", "***"),
        ("?X-Amz-Signature=0123456789abcdef&x=1", "?X-Amz-Signature=***&x=1"),
        ("a\n-----BEGIN RSA PRIVATE KEY-----\nMIIE\nab==\n-----END RSA PRIVATE KEY-----\nb", "a\n***\nb"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE", "***"),
    ],
)
def test_what_looks_like_a_secret_is_masked(text: str, expected: str) -> None:
    """In an address, behind its name, or by the start that its issuer gives it; the rest stands."""
    assert redacted(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "max_num_batched_tokens=2048, num_tokens: 12345678",
        "model.layers.0.mlp.experts of /models/Qwen3-30B-A3B/config.json",
        "RuntimeError: token index 151655 is out of range",
        "eos_token: '<|endoftext|>' pad_token=None",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "see https://docs.example/guide?page=2#token and user@host.example",
        "if self.use_key and secret is None",
    ],
)
def test_ordinary_words_stand(text: str) -> None:
    """Numbers, names of layers, digests and addresses without a password."""
    assert redacted(text) == text


def test_the_values_of_secret_variables_are_masked_wherever_they_stand() -> None:
    """Also those that look like nothing; short ones would be found in ordinary words."""
    secrets = secret_values(
        {"A_PASSWORD": "correct horse", "B_TOKEN": "correct horse battery", "C_KEY": "x", "D": "y" * 9}
    )
    assert secrets == ("correct horse battery", "correct horse")
    assert redacted("said: correct horse battery, correct horse", secrets) == "said: ***, ***"
    assert redacted_values({"a": ["correct horse", 1, None]}, secrets) == {"a": [MASK, 1, None]}


@given(st.text())
def test_scrubbing_twice_changes_nothing_more(text: str) -> None:
    """A stored text that is shown later stays as it is."""
    assert redacted(redacted(text)) == redacted(text)


PIECES = ("a", "eyJ", "://", "token=", "-----BEGIN PRIVATE KEY-----", "bearer ", "sk-", "hf_", "--api-key ", "A.", "\n")


@pytest.mark.parametrize("piece", PIECES)
def test_no_text_takes_long(piece: str) -> None:
    """What is quoted of a log is 64 KiB, and whoever writes it may choose the worst."""
    with limited(120):
        redacted(piece * (65536 // len(piece)))


def test_the_end_of_a_log_is_fit_for_a_terminal(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No colours, no cursor, no blank lines, each state of a progress bar as a line; nothing where there is no log."""
    log = tmp_path_factory.mktemp("log") / "log"
    log.write_bytes(b"first\n\x1b[1;31mred\x1b[0m\n\n10%\r100%\n\xff\x07\x1b]0;title\x07end")
    assert log_tail(log, 5) == ["red", "10%", "100%", "\ufffd]0;titleend"]
    assert log_tail(log.with_name("none"), 5) == []


@pytest.mark.parametrize("name", ["MONKEY", "TURKEY_SIZE", "COMPASS"])
def test_a_word_inside_another_is_none(name: str) -> None:
    """Names are read word by word."""
    assert not is_withheld(name, "value")

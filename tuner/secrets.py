"""Secrets: which environment variables hold one, and text without them. Pure.

Names and shapes are a list of what is known, so what goes out is also searched for the very values of this process's
own secret variables.

`cache/compiled/secrets.py` has another rule, on purpose: a name that it counts stops an archive. Here a wrong guess
costs a worker one variable or a log one word, and a missed one gives a secret away, so keys of any kind count, paths to
secrets, and all that clouds hand out.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

MASK = "***"
WORDS = frozenset(
    {
        *("APIKEY", "AUTH", "AUTHORIZATION", "BEARER", "COOKIE", "CREDENTIAL", "CREDENTIALS", "DSN", "JWT", "KEY"),
        *("KEYS", "PASS", "PASSPHRASE", "PAT", "PRIVATE", "SECRETS", "TOKENS", "WEBHOOK"),
    }
)
"""A variable that has such a word in its name is a secret, unless it is a number: `VLLM_…_TOKEN_THRESHOLD` is one."""
ENDINGS = ("PASSWORD", "PASSWD", "SECRET", "TOKEN", "APIKEY", "SECRETKEY", "ACCESSKEY", "PRIVATEKEY", "TOKENFILE")
"""The same for a word that ends so, such as PGPASSWORD, with a number behind it or without."""
FAMILIES = ("AWS_", "AZURE_", "GCP_", "GITHUB_", "GITLAB_", "GOOGLE_", "KUBE", "SSH_", "VAULT_")
"""Starts of the names with which clouds and build servers hand out access."""
SHORTEST = 8
"""Characters; a shorter value would be found in ordinary words."""
_NAMES = r"(?:api[_-]?key|access[_-]?key|token|secret|passw(?:or)?d|passphrase|signature|credential)"
PATTERNS = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"://[^\s/@\"']{1,512}@", f"://{MASK}@"),
        (r"-----BEGIN[A-Z ]{0,40}PRIVATE KEY-----(?s:.*?)(?:-----END[A-Z ]{0,40}PRIVATE KEY-----|\Z)", MASK),
        (r"(?i)(authorization[\"']?[ \t]{0,3}[:=][ \t]{0,3}[\"']?)(?:\w{1,20}[ \t]+)?[^\s\"',\\]+", rf"\1{MASK}"),
        (r"(?i)\b(bearer)[ \t]+[\w.~+/=-]{16,}", rf"\1 {MASK}"),
        (r"(?i)(--api[-_]key[\"']?[\s,=]{1,3}[\"']?)[^\s\"',\\]+", rf"\1{MASK}"),
        (rf"(?i)({_NAMES}[\"']?[ \t]{{0,3}}[:=][ \t]{{0,3}}[\"']?)(?![\d.]+\b)[^\s\"',;&<>\[\]\\]{{8,}}", rf"\1{MASK}"),
        (r"\b(?:hf_|gh[pousr]_|github_pat_|npm_)[A-Za-z0-9_]{16,}", MASK),
        (r"\b(?:sk|pk|rk|glpat|nvapi|pypi|xox[abeprs])-[\w-]{16,}", MASK),
        (r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bAIza[\w-]{30,}", MASK),
        (r"\beyJ[\w-]{8,2000}\.[\w-]{8,2000}\.[\w-]{0,2000}", MASK),
    )
)
"""What a secret looks like in running text: in an address, behind its name, or by the start that its issuer gives it.
Each repetition is bounded, or ends the match, so that a hostile text takes no longer than another."""

_API_KEY = "--api-key"


def is_secret(name: str, value: str) -> bool:
    """Whether a variable holds a secret, by its name or by what its value looks like."""
    upper = name.upper()
    words = [word.rstrip("0123456789") for word in re.split(r"[^A-Z0-9]+", upper)]
    named = upper.startswith(FAMILIES) or any(word in WORDS or word.endswith(ENDINGS) for word in words)
    return (named and bool(value) and not _is_number(value)) or redacted(value) != value


def without_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that may be handed to a worker.

    All others stay: what a platform or a plugin reads decides what vLLM runs, and no list of such names is complete.
    """
    return {name: value for name, value in environ.items() if not is_secret(name, value)}


def secret_values(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The values of the secret variables, the longest first, as `redacted` takes them."""
    values = {value for name, value in environ.items() if len(value) >= SHORTEST and is_secret(name, value)}
    return tuple(sorted(values, key=lambda value: (-len(value), value)))


def redacted(text: str, secrets: Iterable[str] = ()) -> str:
    """The text with everything masked that is one of `secrets` or looks like one."""
    for secret in secrets:
        text = text.replace(secret, MASK)
    for pattern, replacement in PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def redacted_values(value: Any, secrets: Iterable[str] = ()) -> Any:
    """A JSON value with every text in it redacted; names of fields are left alone.

    Raises:
        RecursionError: it is nested too deeply.
    """
    if isinstance(value, str):
        return redacted(value, secrets)
    if isinstance(value, list):
        return [redacted_values(item, secrets) for item in value]
    if isinstance(value, dict):
        return {name: redacted_values(item, secrets) for name, item in value.items()}
    return value


def _is_number(value: str) -> bool:
    return re.fullmatch(r"-?\d{1,9}(\.\d{1,9})?", value) is not None


def without_keys(args: Sequence[str]) -> list[str]:
    """Arguments without the keys that clients must present: output goes into logs and files."""
    shown, hiding = [], False
    for arg in args:
        option, equals, _ = arg.partition("=")
        is_key = option.replace("_", "-") == _API_KEY
        hiding = is_key or (hiding and not arg.startswith("-"))
        hidden = arg if is_key else "***"
        shown.append(f"{option}=***" if is_key and equals else hidden if hiding else arg)
    return shown

"""Secrets in variables and in text: two profiles of what counts as one. Pure.

- Withheld: a worker does not get it, and logs, answers and exports show it masked. The profile is wide: keys of any
  kind, paths to secrets, access that clouds hand out, and text that looks like a secret. A wrong guess costs a worker
  one variable or a log one word; a missed secret is given away. The lists of names and shapes cannot be complete, so
  text is also searched for the values of this process's own secret variables.
- Refused: `tuner cache pack` refuses a cache that holds it, and `tuner cache scan` reports it as an error. The profile
  is narrow: names that say it outright, and none that says where a secret lies. All names and paths of vLLM's factors
  are searched, and a wrong guess costs a whole archive. vLLM writes the values of its own variables into
  `cache_key_factors.json`; VLLM_API_KEY is among them up to 0.28 (vllm/envs.py, `compile_factors`: 0.29.0 is the first
  to leave it out).
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

MASK = "***"
MIN_VALUE = 8
"""Characters of a value that is searched for; shorter ones (`true`, a port) stand in ordinary text."""

# ---- withheld: names, values and text

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
_NAMES = r"(?:api[_-]?key|access[_-]?key|token|secret|passw(?:or)?d|passphrase|signature|credential)"
SECRET_OPTIONS = {
    "--api-key": ("--api-k", "VLLM_API_KEY"),
    "--hf-token": ("--hf-t", "HF_TOKEN"),
    "--ssl-keyfile-password": ("--ssl-keyfile-", ""),
}
"""Option of vLLM that carries a secret -> its shortest spelling, and the variable that serves in its place; empty if
none does. vLLM takes underscores for dashes, and a spelling that is cut short."""
_SPELT = "|".join(option.removeprefix("--").replace("-", "[-_]") for option in SECRET_OPTIONS)
PATTERNS = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"://[^\s/@\"']{1,512}@", f"://{MASK}@"),
        (r"-----BEGIN[A-Z ]{0,40}PRIVATE KEY-----(?s:.*?)(?:-----END[A-Z ]{0,40}PRIVATE KEY-----|\Z)", MASK),
        (r"(?i)(authorization[\"']?[ \t]{0,3}[:=][ \t]{0,3}[\"']?)(?:\w{1,20}[ \t]+)?[^\s\"',\\]+", rf"\1{MASK}"),
        (r"(?i)\b(bearer)[ \t]+[\w.~+/=-]{16,}", rf"\1 {MASK}"),
        (rf"(?i)(--(?:{_SPELT})[\"']?[\s,=]{{1,3}}[\"']?)[^\s\"',\\]+", rf"\1{MASK}"),
        (rf"(?i)({_NAMES}[\"']?[ \t]{{0,3}}[:=][ \t]{{0,3}}[\"']?)(?![\d.]+\b)[^\s\"',;&<>\[\]\\]{{8,}}", rf"\1{MASK}"),
        (r"\b(?:hf_|gh[pousr]_|github_pat_|npm_)[A-Za-z0-9_]{16,}", MASK),
        (r"\b(?:sk|pk|rk|glpat|nvapi|pypi|xox[abeprs])-[\w-]{16,}", MASK),
        (r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bAIza[\w-]{30,}", MASK),
        (r"\beyJ[\w-]{8,2000}\.[\w-]{8,2000}\.[\w-]{0,2000}", MASK),
    )
)
"""What a secret looks like in running text: in an address, behind its name, or by the start that its issuer gives it.
Each repetition is bounded, or ends the match, so that a hostile text takes no longer than another."""


def is_withheld(name: str, value: str) -> bool:
    """Whether a variable is withheld, for its name or for what its value looks like."""
    upper = name.upper()
    words = [word.rstrip("0123456789") for word in re.split(r"[^A-Z0-9]+", upper)]
    named = upper.startswith(FAMILIES) or any(word in WORDS or word.endswith(ENDINGS) for word in words)
    return (named and bool(value) and not _is_number(value)) or redacted(value) != value


def without_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that may be handed to a worker.

    All others stay: what a platform or a plugin reads decides what vLLM runs, and no list of such names is complete.
    """
    return {name: value for name, value in environ.items() if not is_withheld(name, value)}


def secret_values(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The values of the secret variables, the longest first, as `redacted` takes them."""
    values = {value for name, value in environ.items() if len(value) >= MIN_VALUE and is_withheld(name, value)}
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


def secret_option(argument: str) -> str | None:
    """The option of `SECRET_OPTIONS` that an argument spells, with its value in the same argument or without."""
    name = argument.partition("=")[0].replace("_", "-")
    for option, (shortest, _) in SECRET_OPTIONS.items():
        if name.startswith(shortest) and option.startswith(name):
            return option
    return None


def secrets_in(args: Sequence[str]) -> list[str]:
    """The options in an argument list that carry a secret, each once; one without a value carries none."""
    options = []
    for index, argument in enumerate(args):
        option = secret_option(argument)
        value = argument.partition("=")[2] or next(iter(args[index + 1 : index + 2]), "-")
        if option and not value.startswith("-"):
            options.append(option)
    return list(dict.fromkeys(options))


def without_keys(args: Sequence[str]) -> list[str]:
    """Arguments without the secrets that options carry: output goes into logs and files."""
    masked: list[str] = []
    in_keys = False
    for arg in args:
        option, equals, _ = arg.partition("=")
        if secret_option(arg):
            in_keys = True
            masked.append(f"{option}={MASK}" if equals else arg)
        elif in_keys and not arg.startswith("-"):
            masked.append(MASK)
        else:
            in_keys = False
            masked.append(arg)
    return masked


# ---- refused: names, and the text of files

_REFUSED_NAME = re.compile(r"_API_KEY$|TOKEN(?!IZ)|SECRET|PASSWORD", re.IGNORECASE)
"""TOKENIZER does not count."""
_PLACE = re.compile(r"_(FILE|PATH|DIR)$|/")
"""Such a variable says where a secret lies; a name with a slash is a path, such as that of a source file of vLLM."""
_PAIR = re.compile(rb'"([A-Z][A-Z0-9_]*)"\s*:\s*"[^"]')
"""A variable with a text that is not empty, in JSON, cut or whole. Numbers are settings: VLLM_MAX_TOKENS_..."""


def is_refused(name: str) -> bool:
    """Whether a variable of this name is refused: *_API_KEY, *TOKEN*, *SECRET*, *PASSWORD*."""
    return bool(_REFUSED_NAME.search(name)) and not _PLACE.search(name)


def refused_values(environ: Mapping[str, str]) -> dict[str, tuple[bytes, ...]]:
    """The values to search for, by variable: as they are, and as JSON writes them."""
    values: dict[str, tuple[bytes, ...]] = {}
    for name, value in environ.items():
        if is_refused(name) and len(value) >= MIN_VALUE:
            values[name] = (value.encode(errors="surrogateescape"), json.dumps(value)[1:-1].encode())
    return values


def refused_in_text(text: bytes, values: Mapping[str, tuple[bytes, ...]]) -> list[str]:
    """Names of the variables whose values stand in a text, sorted.

    Args:
        text: the text, which may name variables with their values itself.
        values: other values to search for (`refused_values`).
    """
    names = set(filter(is_refused, map(bytes.decode, _PAIR.findall(text))))
    for name, forms in values.items():
        if any(form in text for form in forms):
            names.add(name)
    return sorted(names)


def refused_names(document: Any) -> list[str]:
    """The refused names in a JSON value, at any depth, that have a text that is not empty; sorted.

    Numbers and truth values do not count: VLLM_MAX_TOKENS_PER_EXPERT_FP4_MOE is 163840.

    Raises:
        RecursionError: the value is nested too deeply.
    """
    return sorted(set(_refused_names(document)))


def _refused_names(document: Any) -> Iterator[str]:
    if isinstance(document, dict):
        for name, value in document.items():
            if is_refused(name) and _has_text(value):
                yield name
            else:
                yield from _refused_names(value)
    elif isinstance(document, list):
        for value in document:
            yield from _refused_names(value)


def _has_text(value: Any) -> bool:
    """Whether a JSON value is or holds a text that is not empty."""
    if isinstance(value, dict):
        return any(map(_has_text, value.values()))
    if isinstance(value, list):
        return any(map(_has_text, value))
    return isinstance(value, str) and bool(value)

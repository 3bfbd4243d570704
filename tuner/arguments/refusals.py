"""What a release of vLLM will refuse in an argument list, in whole sentences: its options, and the config's keys."""

from collections.abc import Iterable

from msgspec import Struct

from rules.compilation_keys import keys_of, unknown_keys
from rules.releases import is_source_build
from tuner.arguments.option_conflicts import conflicts_in
from tuner.arguments.option_faults import nearest, read_options
from tuner.arguments.release_options import OptionTable, option_table
from tuner.arguments.serve_arguments import ServeArguments
from tuner.text import brief

OTHER_PLATFORMS = ("oot:", "tpu")
"""How the names of platforms begin that a plugin brings; it may add options of its own
(`pre_register_and_update`, vllm/platforms/interface.py)."""

SOURCE_BUILD = "A build from source may know it."


class Refusals(Struct, frozen=True):
    """Why a server will not start.

    Attributes:
        certain: this release refuses the list.
        doubtful: a release near it does, or another platform of this release; or vLLM drops what an option says.
    """

    certain: tuple[str, ...] = ()
    doubtful: tuple[str, ...] = ()


def refusals(arguments: ServeArguments, vllm: str | None, platform: str = "") -> Refusals:
    """What this vLLM will refuse; nothing for a version that names no release.

    Args:
        arguments: a list that `parse` took.
        vllm: the version that will serve; None if it is not known.
        platform: that of the environment.
    """
    keys = tuple(key_sentences(arguments.compilation_config, vllm)) if vllm else ()
    doubtful_keys: tuple[str, ...] = ()
    if is_source_build(vllm):
        doubtful_keys = tuple(f"{text} {SOURCE_BUILD}" for text in keys)
        keys = ()
    table = option_table(vllm)
    if table is None:
        return Refusals(keys, doubtful_keys)
    reading = read_options(arguments, table)
    conflicts = [*conflicts_in(reading.options, arguments.compilation_config, table)]
    texts = (*(fault.text for fault in reading.faults), *(c.text for c in conflicts if c.refused))
    dropped = tuple(conflict.text for conflict in conflicts if not conflict.refused)
    if is_certain(table, platform):
        return Refusals((*keys, *texts), dropped)
    return Refusals(keys, (*doubtful_keys, *(f"{text} {basis_sentence(table)}" for text in texts), *dropped))


def is_certain(table: OptionTable, platform: str) -> bool:
    """Whether what the table lacks is refused there."""
    return table.exact and not platform.startswith(OTHER_PLATFORMS)


def basis_sentence(table: OptionTable) -> str:
    """What a doubtful refusal rests on."""
    if table.exact:
        return "A plugin's platform may have further options."
    return f"Judged by the options of vLLM {table.basis}: those of {table.version} are not listed here."


def key_sentences(keys: Iterable[str], version: str) -> list[str]:
    """One sentence for each key of the compilation config that this vLLM does not know."""
    return [_key_sentence(key, was, version) for key, was in unknown_keys(keys, version).items()]


def _key_sentence(key: str, was: str, version: str) -> str:
    near = "" if was else nearest(key, keys_of(version))
    aside = f" ({was})" if was else ""
    hint = f" The nearest key is {near}." if near else ""
    return f"vLLM {version} does not know {brief(key)}{aside}, and does not start with it.{hint}"

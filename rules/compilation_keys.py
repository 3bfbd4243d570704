"""Which keys each vLLM release takes in its compilation config; any other keeps the server from starting.

Read from the settable fields of `CompilationConfig` (vllm/config/compilation.py, which forbids what it does not know)
in the releases of `RELEASES`. 0.15.0 and 0.15.1 were not read: they lie between two releases that differ in the flag
alone. Fields that vLLM fills by itself (`init=False`), such as `local_cache_dir`, are not keys.
"""

from collections.abc import Iterable

from msgspec import Struct

from rules.releases import RELEASES, Release, named_release, numbers_of, releases_for

ALWAYS = frozenset(
    {
        "backend",
        "cache_dir",
        "compile_cache_save_format",
        "compile_mm_encoder",
        "compile_sizes",
        "cudagraph_capture_sizes",
        "cudagraph_copy_inputs",
        "cudagraph_mode",
        "cudagraph_num_of_warmups",
        "cudagraph_specialize_lora",
        "custom_ops",
        "debug_dump_path",
        "dynamic_shapes_config",
        "inductor_compile_config",
        "inductor_passes",
        "max_cudagraph_capture_size",
        "mode",
        "pass_config",
        "splitting_ops",
        "use_inductor_graph_partition",
    }
)
"""Keys of every release."""


class Span(Struct, frozen=True):
    """The releases that take a key.

    Attributes:
        since: the first release that takes it.
        before: the first that takes it no more; None: none so far.
        instead: the key that took its place; empty if none did.
    """

    since: str
    before: str | None = None
    instead: str = ""


CHANGED = {
    "level": Span("0.14.1", "0.18.0", "mode"),
    "compile_ranges_split_points": Span("0.14.1", "0.18.0", "compile_ranges_endpoints"),
    "fast_moe_cold_start": Span("0.16.0"),
    "compile_ranges_endpoints": Span("0.18.0"),
    "cudagraph_mm_encoder": Span("0.19.0"),
    "encoder_cudagraph_token_budgets": Span("0.19.0"),
    "encoder_cudagraph_max_images_per_batch": Span("0.19.0", "0.20.0", "encoder_cudagraph_max_vision_items_per_batch"),
    "encoder_cudagraph_max_vision_items_per_batch": Span("0.20.0"),
    "encoder_cudagraph_max_frames_per_batch": Span("0.20.0"),
    "ir_enable_torch_wrap": Span("0.20.0"),
    "cudagraph_decoder_replay": Span("0.32.0"),
    "decoder_replay_cudagraph_capture_sizes": Span("0.32.0"),
    "decoder_replay_trim_threshold": Span("0.32.0"),
}
"""Keys that came or went."""


def unknown_keys(keys: Iterable[str], version: str) -> dict[str, str]:
    """The keys that this vLLM surely refuses, each with what is known of it: half a sentence, or nothing.

    Empty for a version that cannot be read, names no release, or is newer than the table. For a version that is older
    than the table, only keys that came later are named.
    """
    read = named_release(version)
    rows = releases_for(read) if read else ()
    older = read is not None and read.release < numbers_of(RELEASES[0].version)
    candidates = [key for key in keys if key in CHANGED or not older] if rows else []
    return {key: _history(key) for key in candidates if not any(_takes(row, key) for row in rows)}


def keys_of(version: str) -> list[str]:
    """The keys that this vLLM may take, sorted; those of every release where it names none."""
    read = named_release(version)
    rows = releases_for(read) if read else ()
    return sorted(ALWAYS | {key for key in CHANGED if any(_takes(row, key) for row in rows)})


def _takes(row: Release, key: str) -> bool:
    span = CHANGED.get(key)
    if span is None:
        return key in ALWAYS
    return numbers_of(span.since) <= numbers_of(row.version) and (
        span.before is None or numbers_of(row.version) < numbers_of(span.before)
    )


def _history(key: str) -> str:
    span = CHANGED.get(key)
    if span is None:
        return ""
    releases = f"until {span.before}" if span.before else f"from {span.since} on"
    return f"a key {releases}" + (f", then {span.instead}" if span.instead else "")

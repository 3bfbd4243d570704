"""The arms of a launch: the settings that are tried, each with the arm that its answers are compared with.

The ladder goes from what is surely right to what is fast: eager, compiled without CUDA graphs, graphs in pieces, full
graphs. Neighbours on it differ in one thing, so that a difference in their answers names its cause.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from msgspec import Struct, field

from rules.releases import FLAG_KEY

GRAPHS_KEY, PASSES_KEY, MODE_KEY = "cudagraph_mode", "pass_config", "mode"
"""Keys of the compilation config that arms set: graphs, passes, and how vLLM compiles (0.14.1 to 0.33.0)."""
MODE_NONE = 0
"""The mode that compiles nothing: `CompilationMode.NONE` (vllm/config/compilation.py)."""
EAGER_OPTION, BACKEND_OPTION = "--enforce-eager", "--moe-backend"
WITHOUT_COMPILING: Mapping[str, Any] = {MODE_KEY: MODE_NONE, GRAPHS_KEY: "NONE"}
"""What an eager arm sets of the keys that the user set; alone, `--enforce-eager` does not win over all of them."""
FLOAT32 = ("--dtype", "float32")
GRAPH_MODES = {"piecewise": "PIECEWISE", "full_decode": "FULL_DECODE_ONLY", "full": "FULL_AND_PIECEWISE"}
"""Name of an arm -> its CUDA graph mode (`CUDAGraphMode` in vllm/config/compilation.py, 0.14.1 to 0.33.0)."""
LAUNCH = "as_launched"
"""The arm with the launch as it stands."""
EAGER, EAGER_AGAIN, COMPILED, COMPILED_AGAIN = "eager", "eager_again", "compiled", "compiled_again"
EAGER_FLOAT32, COMPILED_FLOAT32 = "eager_float32", "compiled_float32"
ROOTS = frozenset({EAGER, EAGER_FLOAT32})
"""The arms that others are compared with, and that are compared with none."""
AGAIN = {EAGER: EAGER_AGAIN, COMPILED: COMPILED_AGAIN}
"""Arm -> the same engine once more, which shows the noise between two starts of it."""
NOT_COMPILED = "not_compiled"
"""The arm with full CUDA graphs of code that is not compiled."""
BELOW_NOT_COMPILED = f"{NOT_COMPILED}_without_graphs"
FLAG_ON, FLAG_OFF = "flag_on", "flag_off"
REFERENCES = frozenset({COMPILED, COMPILED_AGAIN, COMPILED_FLOAT32, BELOW_NOT_COMPILED})
"""The arms without `--enforce-eager` that others are compared with."""


class Kind(StrEnum):
    """What an arm and the one that it is compared with differ in."""

    ROOT = "root"
    """Nothing: it is compared with no other."""
    NOISE = "noise"
    """Nothing: the same engine once more."""
    GRAPHS = "graphs"
    """CUDA graphs alone, so that the same kernels run on the same numbers."""
    COMPILE = "compile"
    """Compiling, in the launch's own dtype: other kernels round otherwise."""
    FLOAT32 = "float32"
    """Compiling, in float32, where rounding is a hundred times smaller."""
    BACKEND = "backend"
    """The kernels of the experts, which round otherwise."""
    FLAG = "flag"
    """The value of `fast_moe_cold_start`, with which the code compiles nearly alike."""


class Arm(Struct, frozen=True):
    """One arm.

    Attributes:
        name: its name.
        kind: what it differs in from the arm that it is compared with.
        against: the name of that arm; empty for the root.
        also: the name of an arm that must not be wrong; empty without one.
        config: what it sets in the compilation config.
        options: the arguments that it adds.
        is_setting: whether a launch may be written like this; other arms only serve to judge.
    """

    name: str
    kind: Kind
    against: str = ""
    also: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    is_setting: bool = False


class LaunchFacts(Struct, frozen=True):
    """What is known of a launch before an engine was started.

    Attributes:
        eager: the user asks for no compiling.
        graphs: this platform has CUDA graphs, and the user does not switch them off with `--enforce-eager`.
        float32: the model has kernels for float32: its weights are not quantised.
        flag: `fast_moe_cold_start` can be set.
    """

    eager: bool
    graphs: bool
    float32: bool
    flag: bool


def first_arms(launch: LaunchFacts) -> list[Arm]:
    """The arms that are tried first, in the order in which they are judged.

    A launch that the user wants eager gets the eager arms alone, and those of the flag: it acts on eager code as well.
    """
    eager = (EAGER_OPTION,)
    arms = [
        Arm(EAGER, Kind.ROOT, options=eager, is_setting=True),
        Arm(EAGER_AGAIN, Kind.NOISE, EAGER, options=eager),
    ]
    if launch.eager:
        flags = (Kind.GRAPHS, BELOW_NOT_COMPILED) if launch.graphs else (Kind.NOISE, EAGER)
        return [*arms, *_uncompiled_arms(launch), *_flag_arms(launch, *flags, "")]
    also = COMPILED_FLOAT32 if launch.float32 else ""
    if launch.float32:
        arms += [
            Arm(EAGER_FLOAT32, Kind.ROOT, options=(*eager, *FLOAT32)),
            Arm(COMPILED_FLOAT32, Kind.FLOAT32, EAGER_FLOAT32, config=_without_graphs(launch), options=FLOAT32),
        ]
    arms += _compiled_arms(launch, also)
    if launch.graphs:
        return [*arms, *_flag_arms(launch, Kind.GRAPHS, COMPILED, "")]
    return [*arms, *_flag_arms(launch, Kind.COMPILE, EAGER, also)]


def _uncompiled_arms(launch: LaunchFacts) -> list[Arm]:
    """The launch that the user does not want compiled; it may still have CUDA graphs."""
    if launch.graphs:
        below = not_compiled_arms(launch)[0]
        return [below, Arm(LAUNCH, Kind.GRAPHS, below.name, is_setting=True)]
    return [Arm(LAUNCH, Kind.FLAG if launch.flag else Kind.NOISE, EAGER, is_setting=True)]


def _flag_arms(launch: LaunchFacts, kind: Kind, below: str, also: str) -> list[Arm]:
    """The launch with both values of the flag, where it can be set. With it off it is compared with the arm `below`."""
    if not launch.flag:
        return []
    return [
        Arm(FLAG_OFF, kind, below, also, config={FLAG_KEY: False}),
        Arm(FLAG_ON, Kind.FLAG, FLAG_OFF, config={FLAG_KEY: True}),
    ]


def _compiled_arms(launch: LaunchFacts, also: str) -> list[Arm]:
    """Compiled without CUDA graphs, twice, then with each kind of them; without graphs the launch itself is enough."""
    if not launch.graphs:
        return [Arm(LAUNCH, Kind.COMPILE, EAGER, also, is_setting=True)]
    without = _without_graphs(launch)
    arms = [
        Arm(COMPILED, Kind.COMPILE, EAGER, also, config=without, is_setting=True),
        Arm(COMPILED_AGAIN, Kind.NOISE, COMPILED, config=without),
    ]
    for name, mode in GRAPH_MODES.items():
        arms.append(Arm(name, Kind.GRAPHS, COMPILED, config={GRAPHS_KEY: mode}, is_setting=True))
    return [*arms, Arm(LAUNCH, Kind.FLAG if launch.flag else Kind.GRAPHS, COMPILED, is_setting=True)]


def _without_graphs(launch: LaunchFacts) -> dict[str, Any]:
    """What switches CUDA graphs off, where there are any."""
    return {GRAPHS_KEY: "NONE"} if launch.graphs else {}


def pass_arms(passes: Sequence[str], launch: LaunchFacts) -> list[Arm]:
    """Arms that each switch one compiler pass off, to find the one that is at fault.

    Args:
        passes: the passes that are on in the launch.
        launch: the launch.
    """
    arms = []
    for name in passes:
        off = {PASSES_KEY: {name: False}}
        without = {**off, **_without_graphs(launch)}
        also = f"{pass_arm(name)}_float32" if launch.float32 else ""
        if also:
            arms.append(Arm(also, Kind.FLOAT32, EAGER_FLOAT32, config=without, options=FLOAT32))
        if launch.graphs:
            compiled = f"{pass_arm(name)}_compiled"
            arms.append(Arm(compiled, Kind.COMPILE, EAGER, also, config=without))
            arms.append(Arm(pass_arm(name), Kind.GRAPHS, compiled, config=off, is_setting=True))
        else:
            arms.append(Arm(pass_arm(name), Kind.COMPILE, EAGER, also, config=off, is_setting=True))
    return arms


def pass_arm(name: str) -> str:
    """The name of the arm without a compiler pass."""
    return f"without_{name}"


def not_compiled_arms(launch: LaunchFacts) -> list[Arm]:
    """CUDA graphs of code that is not compiled, and the same without graphs; none where there are no graphs."""
    if not launch.graphs:
        return []
    return [
        Arm(BELOW_NOT_COMPILED, Kind.COMPILE, EAGER, config=WITHOUT_COMPILING),
        Arm(
            NOT_COMPILED,
            Kind.GRAPHS,
            BELOW_NOT_COMPILED,
            config={MODE_KEY: MODE_NONE, GRAPHS_KEY: "FULL"},
            is_setting=True,
        ),
    ]


def backend_arms(backends: Sequence[str], launch: LaunchFacts) -> list[Arm]:
    """Arms that each use another MoE backend. Their own eager engine is compared with that of the launch.

    Args:
        backends: values of `--moe-backend`.
        launch: the launch.
    """
    arms = []
    without = _without_graphs(launch)
    also = COMPILED_FLOAT32 if launch.float32 and not launch.eager else ""
    for name in backends:
        option = (BACKEND_OPTION, name)
        eager, compiled = f"backend_{name}_eager", f"backend_{name}_compiled"
        arms.append(Arm(eager, Kind.BACKEND, EAGER, options=(*option, EAGER_OPTION)))
        arms.append(Arm(compiled, Kind.COMPILE, eager, also, config=without, options=option))
        arms.append(Arm(f"backend_{name}", Kind.GRAPHS, compiled, options=option, is_setting=True))
    return arms

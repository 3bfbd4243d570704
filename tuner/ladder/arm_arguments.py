"""The arguments of each arm of a launch, and what of the user's own settings an arm changes."""

from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from rules.arms import (
    BACKEND_OPTION,
    EAGER_OPTION,
    FLOAT32,
    LAUNCH,
    MODE_KEY,
    REFERENCES,
    WITHOUT_COMPILING,
    Arm,
    LaunchFacts,
)
from rules.releases import FLAG_KEY, FlagStatus
from tuner.arguments.release_options import option_table
from tuner.arguments.serve_arguments import ServeArguments, merge
from tuner.arguments.vllm_options import option_names
from tuner.engines.stand_ins import stand_ins
from tuner.ladder.thin_arms import ON_GPUS, PART
from tuner.launch.plan import Plan, compiles

KV_CACHE = 2**31
"""Bytes of an arm's KV cache where several arms share a GPU. vLLM refuses a longest prompt for which it has no room:
with 8 heads of 128 numbers for keys, four layers in bfloat16 have room for 131,072 tokens."""
MEMORY_OPTIONS = ("--gpu-memory-utilization", "--kv-cache-memory-bytes")


class ArmLaunch(Struct, frozen=True):
    """How an arm is started.

    Attributes:
        arguments: all arguments behind `vllm serve`.
        users: the settings of the user that it changes.
    """

    arguments: tuple[str, ...]
    users: tuple[str, ...]


def launch_facts(plan: Plan, arguments: ServeArguments, *, is_quantised: bool) -> LaunchFacts:
    """What decides which arms a launch has.

    Args:
        plan: the plan of the launch.
        arguments: the user's arguments, read.
        is_quantised: whether the weights that arms serve are quantised: those have kernels for their own dtype alone.
    """
    platform = plan.subject.environment.platform
    options = option_names(arguments.effective)
    return LaunchFacts(
        eager=compiles(arguments) is False,
        graphs=platform in ON_GPUS and not arguments.serving.enforce_eager,
        float32=not is_quantised and "--quantization" not in options and "-q" not in options,
        flag=plan.flag.status is FlagStatus.SETTABLE,
    )


def arm_launch(arm: Arm, plan: Plan, arguments: ServeArguments, *, seats: int) -> ArmLaunch:
    """The arguments of an arm.

    Args:
        arm: the arm.
        plan: the plan of the launch.
        arguments: the user's arguments, read.
        seats: how many arms run on one GPU at the same time.
    """
    own = arguments.compilation_config
    config = {**_planned_config(plan, arguments, arm), **arm.config}
    if EAGER_OPTION in arm.options:
        config |= {key: value for key, value in WITHOUT_COMPILING.items() if key in own}
    users = [key for key, value in config.items() if key in own and _contradicts(own[key], value)]
    changed = {**own, **{key: _joined(own.get(key), value) for key, value in config.items()}}
    args = merge(replace(arguments, compilation_config=changed), config)
    users += _changed_options(arm, arguments)
    extra = _memory(plan, seats) if seats > 1 else ()
    return ArmLaunch((*args, *stand_ins(plan, arguments), *arm.options, *extra), tuple(users))


def _planned_config(plan: Plan, arguments: ServeArguments, arm: Arm) -> dict[str, Any]:
    """What the plan writes of the flag and of compiling.

    Where the flag can be set, it is off in all arms but that of the launch itself, so that it corrupts no reference. A
    user's own value stays, but in eager arms and in references.
    """
    own = arguments.compilation_config
    planned = {FLAG_KEY: plan.decision.setting, MODE_KEY: plan.decision.mode}
    config = {key: value for key, value in planned.items() if value is not None and key not in own}
    is_reference = EAGER_OPTION in arm.options or arm.name in REFERENCES
    is_off = is_reference or FLAG_KEY not in own
    if plan.flag.status is FlagStatus.SETTABLE and arm.name != LAUNCH and is_off:
        config[FLAG_KEY] = False
    return config


def _contradicts(users: Any, value: Any) -> bool:
    """Whether an arm's value is another one than the user's; of two objects, in a key that both have."""
    if isinstance(users, dict) and isinstance(value, dict):
        return any(key in users and users[key] != inner for key, inner in value.items())
    return bool(users != value)


def _joined(users: Any, value: Any) -> Any:
    """The value of an arm within that of the user: both may be objects, such as `pass_config`."""
    return {**users, **value} if isinstance(users, dict) and isinstance(value, dict) else value


def _changed_options(arm: Arm, arguments: ServeArguments) -> list[str]:
    """The options of the user that an arm contradicts; an arm in float32 is never written."""
    names = option_names(arguments.effective)
    changing = [BACKEND_OPTION] if BACKEND_OPTION in arm.options else []
    changing += [FLOAT32[0]] if FLOAT32[0] in arm.options else []
    return [name for name in changing if name in names]


def _memory(plan: Plan, seats: int) -> tuple[str, ...]:
    """Options with which several arms fit one GPU, those that this release has."""
    table = option_table(plan.subject.environment.vllm)
    values = (f"{PART / seats:.3f}", str(KV_CACHE))
    options: list[str] = []
    for name, value in zip(MEMORY_OPTIONS, values, strict=True):
        if table is not None and table.get(name) is not None:
            options += [name, value]
    return tuple(options)

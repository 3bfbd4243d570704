"""What a launch says of the flag, and what its vLLM does with it: shared by the rules on the flag. Pure."""

from rules.compilation_keys import unknown_keys
from rules.decide import FLAG_KEY
from rules.releases import FlagStatus, turns_off_by_itself
from tuner.checks.examine import Examined
from tuner.launch.plan import as_bool


def is_ineffective(examined: Examined) -> bool:
    """Whether this vLLM does nothing with the flag."""
    return examined.plan is not None and examined.plan.flag.status in {FlagStatus.INERT, FlagStatus.ABSENT}


def is_set_to_true(examined: Examined) -> bool:
    """Whether the launch sets the flag to true, for a vLLM that has the flag and does something with it."""
    if examined.arguments is None or is_ineffective(examined):
        return False
    explicit = examined.arguments.compilation_config.get(FLAG_KEY)
    if explicit is None or not as_bool(explicit):
        return False
    return not (examined.version and unknown_keys([FLAG_KEY], examined.version))


def is_speculative(examined: Examined) -> bool:
    """Whether the launch decodes speculatively."""
    return examined.arguments is not None and examined.arguments.serving.speculative is not None


def is_left_out(examined: Examined) -> bool:
    """Whether the launch does not set the flag, as far as all its arguments are seen."""
    arguments = examined.arguments
    return arguments is not None and arguments.compilation_config.get(FLAG_KEY) is None and not examined.hidden


def is_excepted(examined: Examined) -> bool:
    """Whether this vLLM turns the flag off for this model's architecture, as long as it runs the model's own code."""
    if examined.model is None or examined.arguments is None:
        return False
    if examined.arguments.serving.model_impl == "transformers":
        return False
    return turns_off_by_itself(examined.version, examined.model.architecture)


def is_on_by_default(examined: Examined) -> bool:
    """Whether the flag is on although the launch does not set it; vLLM leaves it off beside a draft model."""
    if examined.plan is None or examined.plan.flag.status is not FlagStatus.SETTABLE:
        return False
    return is_left_out(examined) and not is_speculative(examined) and not is_excepted(examined)

"""Turns the arguments of `vllm serve` into the config with which its engine starts."""

from typing import Any, cast

from shared_worker.model_classes import inspect_in_process
from shared_worker.vllm_types import EngineArgs, VllmConfig


def engine_config(args: list[str]) -> VllmConfig:
    """The VllmConfig that the API server passes to its engine.

    It is made in the same steps as in `vllm serve`: vLLM's parser, `AsyncEngineArgs`, and `create_engine_config` with
    the usage context of the API server. The usage context decides defaults such as the batch size
    (vllm/entrypoints/cli/serve.py, 0.16.0 to 0.32.0).

    Args:
        args: the arguments of `vllm serve`.
    """
    return config_of(engine_args(args))


def engine_args(args: list[str]) -> EngineArgs:
    """The AsyncEngineArgs for these arguments of `vllm serve`."""
    from vllm.engine.arg_utils import AsyncEngineArgs

    inspect_in_process()
    values = parse(args)
    if getattr(values, "model_tag", None) is not None:
        values.model = values.model_tag
    return cast("EngineArgs", AsyncEngineArgs.from_cli_args(values))


def config_of(arguments: EngineArgs) -> VllmConfig:
    """The VllmConfig that the API server makes from these AsyncEngineArgs."""
    from vllm.usage.usage_lib import UsageContext

    return arguments.create_engine_config(usage_context=UsageContext.OPENAI_API_SERVER)


def parse(args: list[str]) -> Any:
    """The namespace that vLLM's own parser makes of the arguments.

    Raises:
        SystemExit: the parser refuses an argument.
    """
    from vllm.entrypoints.cli.serve import cmd_init
    from vllm.plugins import load_general_plugins
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    load_general_plugins()
    parser = FlexibleArgumentParser()
    cmd_init()[0].subparser_init(parser.add_subparsers(dest="subparser"))
    return parser.parse_args(["serve", *args])

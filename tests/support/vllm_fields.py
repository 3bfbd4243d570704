"""Runs inside a serving environment: every field of the VllmConfig that `vllm serve` makes of an argument list.

Usage: `python vllm_fields.py`, one JSON document a line in and out. The first line out is the release. Each line in is
`args`, a list of arguments behind `vllm serve`, and `cuda`. Its line out is `fields`, the text of each field by its
dotted name, or `refused`, why vLLM refuses the list. What vLLM prints on stdout goes to stderr.

With `cuda` true the config is made as on a GPU: what stands in is the platform's class of vLLM itself, with the numbers
of one H100 where it would ask the driver. It takes no GPU to make a config.
"""

import dataclasses
import functools
import importlib.util
import json
import os
import re
import sys
import types
from typing import Any

ADDRESS = re.compile(r"0x[0-9a-f]+")


def main() -> None:
    """Answer each line of stdin."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    from vllm import __version__  # noqa: PLC0415  vLLM takes seconds to import
    from vllm.entrypoints.cli.serve import cmd_init  # noqa: PLC0415  as above
    from vllm.platforms import current_platform  # noqa: PLC0415  as above
    from vllm.utils.argparse_utils import FlexibleArgumentParser  # noqa: PLC0415  as above

    inspect_in_process()
    parser = FlexibleArgumentParser()
    cmd_init()[0].subparser_init(parser.add_subparsers(dest="subparser"))
    own, other = type(current_platform), as_on_cuda()
    print(json.dumps(__version__), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        fields = answer(parser, request["args"])
        if request["cuda"]:  # everything is imported by now, as this platform imports it
            current_platform.__class__ = other
            fields = answer(parser, request["args"])
            current_platform.__class__ = own
        print(json.dumps(fields), file=answers, flush=True)


def answer(parser: Any, args: list[str]) -> dict[str, Any]:
    """The fields of one config, or why there is none."""
    from vllm.engine.arg_utils import AsyncEngineArgs  # noqa: PLC0415  as above
    from vllm.usage.usage_lib import UsageContext  # noqa: PLC0415  as above

    try:
        values = parser.parse_args(["serve", *args])
        values.model = values.model_tag
        engine_args = AsyncEngineArgs.from_cli_args(values)
        config = engine_args.create_engine_config(usage_context=UsageContext.OPENAI_API_SERVER)
    except (Exception, SystemExit) as error:  # noqa: BLE001  however it refuses
        return {"refused": repr(error)}
    fields: dict[str, str] = {}
    collect(config, "", fields, ())
    return {"fields": fields}


def collect(value: Any, name: str, fields: dict[str, str], owners: tuple[int, ...]) -> None:
    """Put the text of each field below `value` into `fields`; a config inside a config is gone through."""
    if not dataclasses.is_dataclass(value) or id(value) in owners:
        fields[name] = ADDRESS.sub("0x", repr(value))
        return
    names = {*vars(value), *(field.name for field in dataclasses.fields(value))}
    for inner in names:
        if isinstance(getattr(type(value), inner, None), functools.cached_property):
            continue  # there only once somebody has asked for it
        dotted = f"{name}.{inner}" if name else inner
        collect(getattr(value, inner, None), dotted, fields, (*owners, id(value)))


def inspect_in_process() -> None:
    """Let vLLM inspect model classes here, not in a subprocess of 10 s each."""
    from vllm.model_executor.models import registry  # noqa: PLC0415  as above

    if hasattr(registry, "_run_in_subprocess"):
        registry._run_in_subprocess = lambda inspect_class: inspect_class()


def as_on_cuda() -> type:
    """The class of vLLM's own for a GPU, with the numbers of one H100 where it would ask the driver."""
    for kernels in ("vllm._C", "vllm._C_stable_libtorch"):
        if importlib.util.find_spec(kernels) is None:
            sys.modules[kernels] = types.ModuleType(kernels)  # none is called
    from vllm.platforms import cuda, interface  # noqa: PLC0415  as above

    class StandIn(cuda.NonNvmlCudaPlatform):  # type: ignore[name-defined,misc]
        """An H100 of 80 GiB, as the driver describes it."""

        @classmethod
        def get_device_capability(cls, device_id: int = 0) -> Any:  # noqa: ARG003  called by name
            return interface.DeviceCapability(9, 0)

        @classmethod
        def get_device_name(cls, device_id: int = 0) -> str:  # noqa: ARG003  as above
            return "NVIDIA H100 80GB HBM3"

        @classmethod
        def get_device_total_memory(cls, device_id: int = 0) -> int:  # noqa: ARG003  as above
            return 80 * 2**30

        @classmethod
        def device_count(cls) -> int:
            return 8

    return StandIn


if __name__ == "__main__":
    main()

"""Starts vLLM in this process, and builds a small model in it: configuration, model class, random weights."""

import inspect
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from moe_probe_worker import plugins
from moe_probe_worker.autotune import take_the_first
from moe_probe_worker.stubs import Stubs
from shared_worker.build_stand_ins import BuildStandIns
from shared_worker.installed import version_of
from shared_worker.model_classes import inspect_in_process
from shared_worker.vllm_types import Json, Module, VllmConfig
from shared_worker.workspace import make_workspace

MAX_TOKENS = 2048
"""Tokens in the probe's largest batch. vLLM's own `max_num_batched_tokens` is the same for an offline launch."""
MAX_SEQUENCES = 8
"""Sequences in the probe's largest batch."""
MOST_DEVICE_MEMORY = 16 * 2**30
"""Bytes of a GPU's memory. A cut model takes at most 4 GiB."""
REMEDIES: dict[str, Json] = {
    # If vLLM cannot split a prompt, the longest prompt must fit into one batch.
    "max_num_batched_tokens": {"max_model_len": MAX_TOKENS},
    # vLLM turns prefix caching off itself, but only after it computed the size of the Mamba state.
    "enable-prefix-caching": {"enable_prefix_caching": False},
}
"""Part of an error message of vLLM -> settings that avoid the error."""
NOISE = 2**16
"""How many different random numbers the weights have."""


def start(control: Path) -> Json:
    """Import vLLM, set up torch.distributed for one process, and describe the environment.

    Args:
        control: the control folder. torch.distributed keeps a file there.

    Returns:
        `environment`: versions and device; `flag`: as `flag`; `import_seconds`; `failed_plugins`: as `plugins.load`.

    Raises:
        Exception: vLLM cannot be imported or started, or a plugin raised.
    """
    begin = time.monotonic()
    import torch
    import vllm
    from vllm.platforms import current_platform

    inspect_in_process()
    take_the_first()
    failures = plugins.load()
    start_distributed(control, current_platform.device_type)
    if current_platform.device_type == "cuda":
        bound_memory()
    if current_platform.device_type != "cpu":
        make_workspace(torch.device(current_platform.device_type, 0))
    seconds = round(time.monotonic() - begin, 3)
    environment = {
        "vllm": vllm.__version__,
        "torch": torch.__version__,
        "triton": version_of("triton"),
        "transformers": version_of("transformers"),
        "python": ".".join(str(part) for part in sys.version_info[:3]),
        "platform": type(current_platform).__name__,
        "device": current_platform.device_type,
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
    }
    facts = {"environment": environment, "flag": flag(), "import_seconds": seconds}
    return {**facts, "failed_plugins": failures}


def start_distributed(control: Path, device: str) -> None:
    """Start torch.distributed for one process. It uses a file, because a network port could be taken."""
    from vllm.distributed import init_distributed_environment

    init_distributed_environment(
        world_size=1,
        rank=0,
        local_rank=0,
        distributed_init_method=f"file://{control / 'distributed'}",
        backend="nccl" if device == "cuda" else "gloo",
    )


def bound_memory() -> None:
    """Let torch allocate at most `MOST_DEVICE_MEMORY` bytes of the GPU. Other processes may need the rest."""
    import torch

    whole = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, MOST_DEVICE_MEMORY / whole))


def flag() -> Json:
    """What `fast_moe_cold_start` is in this vLLM, and its value after a launch sets it to true.

    Returns:
        `field`: as `flag_form`; `effective_when_true`: the value that vLLM resolves for a configuration without a
        model, or None if that is unknown.
    """
    from vllm.config import CompilationConfig, VllmConfig

    if (form := flag_form()) != "field":
        return {"field": form, "effective_when_true": None}
    try:
        config = VllmConfig(compilation_config=CompilationConfig(fast_moe_cold_start=True))
        return {"field": "field", "effective_when_true": bool(config.compilation_config.fast_moe_cold_start)}
    except Exception:
        return {"field": "field", "effective_when_true": None}


def flag_form() -> str:
    """How this vLLM's CompilationConfig has the flag.

    Returns:
        `field`; `attribute`: a class attribute that a launch cannot set (0.15.1); or `absent`.
    """
    from vllm.config import CompilationConfig

    if "fast_moe_cold_start" in getattr(CompilationConfig, "__dataclass_fields__", {}):
        return "field"
    return "attribute" if hasattr(CompilationConfig, "fast_moe_cold_start") else "absent"


def model_folder(job: Json) -> Path:
    """Make a folder with the shrunk config.json and the side files. It gets the model's code if that may run."""
    folder = Path(tempfile.mkdtemp(prefix="model-", dir=os.getcwd()))  # noqa: PTH109  the worker's own folder
    config = dict(job["config"])
    if not job["trust_remote_code"]:
        config.pop("auto_map", None)
    else:
        for source in Path(job["folder"]).glob("*.py"):
            shutil.copy(source, folder)
    config.pop("configuration_files", None)  # names another config.json, which the folder lacks
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for name in job["side_files"]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(job["folder"]) / name, folder / name)
    return folder


def configure(job: Json, folder: Path, **settings: Any) -> VllmConfig:
    """Make the VllmConfig for eager execution of this model, without tokenizer or weights.

    If vLLM rejects it with an error that `REMEDIES` knows, the settings there are added and it tries again.

    Args:
        job: the model.
        folder: has its config.json.
        settings: engine arguments. They override the probe's own.

    Raises:
        Exception: what vLLM raised.
    """
    remedies = dict(REMEDIES)
    while True:
        try:
            return configure_once(job, folder, **settings)
        except ValueError as error:
            message_part = next((words for words in remedies if words in str(error)), None)
            if message_part is None:
                raise
            settings = remedies.pop(message_part) | settings


def configure_once(job: Json, folder: Path, **settings: Any) -> VllmConfig:
    """As `configure`, but tries only once."""
    from vllm.engine.arg_utils import EngineArgs

    engine_arguments = {
        "model": str(folder),
        "load_format": "dummy",
        "skip_tokenizer_init": True,
        "enforce_eager": True,
        "dtype": "bfloat16",
        "max_num_batched_tokens": MAX_TOKENS,
        "max_num_seqs": MAX_SEQUENCES,
        "gpu_memory_utilization": 0.5,
        "model_impl": job["model_impl"],
        "trust_remote_code": job["trust_remote_code"],
        "limit_mm_per_prompt": {"image": 0, "video": 0, "audio": 0} if is_multimodal(job["config"]) else {},
        "compilation_config": {"fast_moe_cold_start": False} if flag_form() == "field" else {},
    }
    parameters = inspect.signature(EngineArgs).parameters
    arguments = {name: value for name, value in engine_arguments.items() if name in parameters}
    config: VllmConfig = EngineArgs(**{**arguments, **settings}).create_engine_config()
    return config


def construct(job: Json, stubs: Stubs, **settings: Any) -> tuple[VllmConfig, Module]:
    """Make the VllmConfig and build the model.

    If the constructor of a token mixer raises, a stand-in replaces that class, and the model is built again.

    Args:
        job: the model.
        stubs: its stand-ins. New ones are added.
        settings: as for `configure`.

    Raises:
        Exception: what vLLM raised, if a stand-in does not help.
    """
    folder = model_folder(job)
    while True:
        try:
            with BuildStandIns(stubs.note, job["folder"]).installed():
                vllm_config = configure(job, folder, **settings)
                return vllm_config, build(vllm_config)
        except Exception as error:
            if not stubs.replace_class(error):
                raise


def is_multimodal(config: Json) -> bool:
    """Whether the config has an encoder. The probe feeds the encoder's outputs as embeddings."""
    return any(isinstance(value, dict) and key.startswith(("vision", "audio")) for key, value in config.items())


def make_groups() -> None:
    """Make vLLM's groups of ranks, if there are none yet. Each has only this process."""
    from vllm.config import VllmConfig, set_current_vllm_config
    from vllm.distributed import initialize_model_parallel, parallel_state

    if not parallel_state.model_parallel_is_initialized():
        # vLLM makes all groups if it has no model. For a dense model it leaves out the group of experts, which the next
        # model may need.
        with set_current_vllm_config(VllmConfig()):
            initialize_model_parallel(1, 1)


def build(vllm_config: VllmConfig) -> Module:
    """Build the model class that vLLM picks, on the platform's device, in bfloat16.

    The layers are added to the static lists in the VllmConfig.
    """
    import torch
    from vllm.config import set_current_vllm_config
    from vllm.model_executor.model_loader.utils import initialize_model
    from vllm.utils.torch_utils import set_default_torch_dtype

    make_groups()
    device = torch.device(vllm_config.device_config.device)
    with set_current_vllm_config(vllm_config), set_default_torch_dtype(torch.bfloat16), device:
        model: Module = initialize_model(vllm_config)
    materialise(model, device)
    return model


def materialise(model: Module, device: Any) -> None:
    """Replace the model's buffers on the meta device by zeros on the real device.

    vLLM 0.19.1 makes the buffers for deep-stacked vision features together with
    the skipped encoder, on the meta device (models/qwen3_vl.py). The text path
    reads them.
    """
    import torch

    for module in model.modules():
        for name, value in list(vars(module).items()):
            if isinstance(value, list):
                setattr(module, name, [with_memory(item, device) for item in value])
            elif isinstance(value, torch.Tensor):
                setattr(module, name, with_memory(value, device))


def with_memory(value: Any, device: Any) -> Any:
    """Zeros on the device for a tensor on the meta device. Any other value is returned as it is."""
    import torch

    if isinstance(value, torch.Tensor) and value.is_meta:
        return torch.zeros_like(value, device=device)
    return value


def fill_weights(model: Module) -> None:
    """Fill the weights with small random numbers. The probe observes the order of layers, not values.

    Each parameter repeats one block of `NOISE` numbers. New numbers for a large
    vocabulary would take longer than all passes. Integer parameters, 8-bit ones
    and those not contiguous in memory become zero.
    """
    import torch

    generator = torch.Generator(device="cpu").manual_seed(0)
    numbers = torch.empty(NOISE, dtype=torch.float32).uniform_(-1e-3, 1e-3, generator=generator)
    parameters = [parameter for parameter in model.parameters() if not parameter.is_meta]  # encoders may lie there
    noise = numbers.to(parameters[0].device) if parameters else numbers
    for parameter in parameters:
        flat = parameter.data.flatten() if parameter.data.is_contiguous() else None
        if flat is None or not parameter.is_floating_point() or parameter.dtype.itemsize == 1:
            parameter.data.zero_()
            continue
        whole = flat.numel() // NOISE * NOISE
        flat[:whole].view(-1, NOISE).copy_(noise)
        flat[whole:].copy_(noise[: flat.numel() - whole])


def leave_experts(model: Module) -> None:
    """Turn off the step after loading that repacks the experts' weights. The model's experts must never compute."""
    from vllm.model_executor.layers.fused_moe import FusedMoEMethodBase

    for module in model.modules():
        method: Any = getattr(module, "quant_method", None)
        if isinstance(method, FusedMoEMethodBase):
            method.process_weights_after_loading = lambda *_: None


def call_finalizers(model: Any) -> None:
    """Let a model class make the tensors that it computes from its loaded weights. vLLM does not, for dummy weights.

    DeepSeek-V4 of vLLM 0.26.0 makes the broadcast weights of its multi-head combination in `load_weights`, by
    `finalize_mhc_broadcast_weights` (models/deepseek_v4/nvidia/model.py). 0.32.0 makes them in the step after loading.
    """
    load = getattr(type(model), "load_weights", None)
    names = getattr(getattr(load, "__code__", None), "co_names", ())
    if any(name.startswith("finalize_") for name in names):
        model.load_weights(iter(()))


def finish_weights(model: Module, vllm_config: VllmConfig, stubs: Stubs) -> None:
    """Run vLLM's step after loading, which chooses kernels and repacks weights."""
    from vllm.config import set_current_vllm_config
    from vllm.model_executor.model_loader.utils import process_weights_after_loading

    stubs.excuse_layers(model)
    call_finalizers(model)
    with set_current_vllm_config(vllm_config):
        process_weights_after_loading(model, vllm_config.model_config, vllm_config.device_config.device)

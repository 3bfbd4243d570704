"""The model built again for other serving settings, each observed on its own.

One process shows one rank. Where a setting needs more, the rank's view of its
group is changed around building and passes: vLLM reads rank and size from the
group object, and what the other ranks would send is made up.
"""

import gc
from contextlib import ExitStack, contextmanager
from functools import partial
from types import SimpleNamespace

from moe_probe_worker import adapters, drafts, engine
from moe_probe_worker.passes import COMPUTED, Passes
from moe_probe_worker.recorder import Recorder, registered_layers
from moe_probe_worker.scenarios import learning, scenarios
from moe_probe_worker.stubs import Stubs

STAGES = 3
RANKS = 2


class NotApplicable(Exception):  # noqa: N818  an outcome, not an error of ours
    """The setting does not exist for this model."""


class Built:
    """One model under one setting, ready to run.

    Args:
        job: the model.
        settings: engine arguments that make the setting.
        stubs: stand-ins, extended.
        experts: false where the experts would wait for ranks that are not there.
    """

    def __init__(self, job: dict, settings: dict, stubs: Stubs, *, experts: bool = True) -> None:
        self.job, self.stubs, self.experts = job, stubs, experts
        self.vllm_config, self.model = engine.construct(job, stubs, **settings)
        if not experts:
            leave_experts(self.model)
        finish(self.model, self.vllm_config, stubs)

    def passes(self, kind=Passes) -> Passes:
        """A way to run it; the base probe shows the experts' arithmetic, here they compute only where they must."""
        recorder = Recorder(registered_layers(self.vllm_config))
        recorder.stubbed = not self.experts
        found = kind(self.model, self.vllm_config, recorder, self.stubs)
        found.computed = ()
        return found

    def shown(self, passes: Passes, detail: str = "") -> dict:
        """What a variant adds to its entry."""
        planned = learning(scenarios(*passes.inputs(self.job["special_tokens"])))
        ran = [passes.run(scenario) for scenario in planned]
        stood_in = [item["detail"] for item in self.stubs.used]
        said = "; ".join([detail] * bool(detail) + stood_in)
        return {"registered": list(passes.recorder.layers), "scenarios": ran, "detail": said}


class CutPasses(Passes):
    """Forward passes whose attention is told which tokens need logits: the last of each sequence."""

    def metadata(self, scenario) -> dict:
        """For every attention layer what vLLM's fast prefill adds to its metadata (v1/attention/backends/utils.py)."""
        import torch

        following = [*scenario.positions[1:], None]
        last = [row for row, at in enumerate(scenario.positions) if following[row] != at + 1]
        cut = SimpleNamespace(
            logits_indices_padded=torch.tensor(last, device=self.device), num_logits_indices=len(last)
        )
        layers = self.vllm_config.compilation_config.static_forward_context
        return {name: cut for name, layer in layers.items() if hasattr(layer, "kv_sharing_target_layer_name")}


def observe_variants(job: dict) -> list:
    """The model under every other setting.

    Returns:
        For each variant: `name`, `status` (`ran`, `failed`, `not_applicable`),
        `detail` (why, or what stood in), `registered`, `scenarios`.
    """
    return [observed(name, show, job) for name, show in VARIANTS.items()]


def observed(name: str, show, job: dict) -> dict:
    """One variant's entry; a failure is its own and nobody else's."""
    entry = {"name": name, "status": "ran", "detail": "", "registered": [], "scenarios": []}
    try:
        engine.make_groups()
        return {**entry, **show(job)}
    except NotApplicable as reason:
        return {**entry, "status": "not_applicable", "detail": str(reason)}
    except Exception as error:
        return {**entry, "status": "failed", "detail": words(error)}
    finally:
        gc.collect()


def words(error: BaseException) -> str:
    """The exception in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def finish(model, vllm_config, stubs: Stubs) -> None:
    """Weights, and vLLM's own step after loading."""
    engine.fill_weights(model)
    engine.finish_weights(model, vllm_config, stubs)


def leave_experts(model) -> None:
    """Leave out the step after loading that connects the experts' kernels with those of other ranks."""
    from vllm.model_executor.layers.fused_moe import FusedMoEMethodBase

    methods = (getattr(module, "quant_method", None) for module in model.modules())
    for method in methods:
        if isinstance(method, FusedMoEMethodBase):
            method.process_weights_after_loading = lambda *_: None


@contextmanager
def posing_as(group, rank: int, size: int):
    """Let this process look like one of several ranks of a group."""
    posed = {"ranks": list(range(size)), "rank": rank, "rank_in_group": rank, "world_size": size}
    kept = {name: getattr(group, name) for name in posed}
    vars(group).update(posed)
    try:
        yield
    finally:
        vars(group).update(kept)


def plain_config(job: dict):
    """The configuration of the base probe, without a model."""
    return engine.configure(job, engine.model_folder(job))


def pipeline_stage(job: dict, rank: int) -> dict:
    """One stage of three: it constructs its own layers and starts from the hidden states of the stage before."""
    from vllm.distributed import get_pp_group

    model_config = plain_config(job).model_config
    if not model_config.registry.is_pp_supported_model(model_config.architectures, model_config):
        raise NotApplicable("This vLLM does not split the model into pipeline stages.")
    if model_config.get_total_num_hidden_layers() < STAGES:
        raise NotApplicable(f"The model has fewer than {STAGES} layers.")
    settings = {"pipeline_parallel_size": STAGES, "distributed_executor_backend": "mp"}
    with Stubs() as stubs, posing_as(get_pp_group(), rank, STAGES):
        built = Built(job, settings, stubs)
        return built.shown(built.passes(), f"stage {rank + 1} of {STAGES}")


def lora(job: dict) -> dict:
    """With adapter layers around the model's own, and an adapter active."""
    from vllm.config import set_current_vllm_config
    from vllm.model_executor.model_loader.utils import get_model_architecture
    from vllm.model_executor.models.interfaces import supports_lora

    if not supports_lora(get_model_architecture(plain_config(job).model_config)[0]):
        raise NotApplicable("This vLLM takes no LoRA adapters for the model.")
    with Stubs() as stubs:
        built = Built(job, adapters.SETTINGS, stubs)
        with set_current_vllm_config(built.vllm_config):
            manager = adapters.wrap(built.model, built.vllm_config)
        passes = built.passes(adapters.AdapterPasses)
        passes.manager, passes.adapter = manager, adapters.activate(manager, built.model)
        return built.shown(passes, "an adapter of zeros active")


def spread_experts(job: dict, **settings) -> dict:
    """The first of two data-parallel ranks that share the experts between them."""
    from vllm.distributed import get_dp_group, get_ep_group

    if not job["declares_experts"]:
        raise NotApplicable("The config declares no experts.")
    spread = {"data_parallel_size": RANKS, "enable_expert_parallel": True, **settings}
    with Stubs() as stubs, ExitStack() as ranks:
        for group in (get_dp_group(), get_ep_group()):
            ranks.enter_context(posing_as(group, 0, RANKS))
        built = Built(job, spread, stubs, experts=False)
        return built.shown(built.passes(), f"rank 1 of {RANKS}, experts not computed")


def kv_sharing_fast_prefill(job: dict) -> dict:
    """Prefill cut short for layers that read another layer's keys and values."""
    with Stubs() as stubs:
        built = Built(job, {"kv_sharing_fast_prefill": True}, stubs)
        layers = built.vllm_config.compilation_config.static_forward_context.values()
        if not any(getattr(layer, "kv_sharing_target_layer_name", None) for layer in layers):
            raise NotApplicable("No layer of the model reads the KV cache of another.")
        return built.shown(built.passes(CutPasses), "layers without a KV cache of their own see the last token alone")


def speculative_draft(job: dict) -> dict:
    """Target and draft under one configuration: the target's scenarios, then each draft step."""
    layers, reason = drafts.declared(plain_config(job))
    if not layers:
        raise NotApplicable(reason)
    with Stubs() as stubs:
        while True:
            built = Built(job, drafts.settings(layers), stubs)
            try:
                draft = engine.build(built.vllm_config, built.vllm_config.speculative_config.draft_model_config)
                break
            except Exception as error:
                if not stubs.replace_class(error):
                    raise
        finish(draft, built.vllm_config, stubs)
        target = built.passes()
        shown = built.shown(target, f"draft {type(draft).__name__}")
        proposer = drafts.DraftPasses(draft, built.vllm_config, target.recorder, stubs)
        return {**shown, "scenarios": [*shown["scenarios"], *proposer.run_steps()]}


def quantized(job: dict) -> dict:
    """With the quantisation that the config names, whose kernels replace the experts'."""
    if job["quantized"] is None:
        raise NotApplicable("The config names no quantisation.")
    with Stubs() as stubs:
        built = Built({**job, "config": job["quantized"]}, {}, stubs)
        passes = built.passes()
        passes.computed = COMPUTED
        return built.shown(passes, type(next(iter(passes.recorder.layers.values()), None)).__name__)


def transformers(job: dict) -> dict:
    """The Hugging Face implementation, its experts replaced by vLLM's layer in the order of the module tree."""
    import transformers as library

    if job["model_impl"] == "transformers":
        raise NotApplicable("The probe itself used this implementation.")
    if not any(hasattr(library, name) for name in job["config"]["architectures"]):
        raise NotApplicable(f"transformers {library.__version__} has no class {job['config']['architectures'][0]}.")
    with Stubs() as stubs:
        built = Built(job, {"model_impl": "transformers"}, stubs)
        return built.shown(built.passes(), type(built.model).__name__)


VARIANTS = {
    "pipeline_first": partial(pipeline_stage, rank=0),
    "pipeline_middle": partial(pipeline_stage, rank=1),
    "pipeline_last": partial(pipeline_stage, rank=2),
    "speculative_draft": speculative_draft,
    "expert_parallel": spread_experts,
    "eplb": partial(spread_experts, enable_eplb=True),
    "lora": lora,
    "quantized": quantized,
    "transformers": transformers,
    "kv_sharing_fast_prefill": kv_sharing_fast_prefill,
}
"""Variant -> what shows it, in the order of the report."""

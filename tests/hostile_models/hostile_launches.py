"""Kinds of branches that a launch decides: the model is in order with defaults, and a launch takes a layer out."""
# ruff: noqa: ARG002, D101, D102  the shape of each branch is what is tested

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from hostile_base import LEFT_OUT, Batch, Kind, Steps
from vllm.config import VllmConfig


class Launched(Kind):
    """Leaves out a layer in a launch that construction knows of."""

    def prepare(self, vllm_config: VllmConfig, layers: Any) -> None:
        self.left_out = self.is_odd(vllm_config)

    def is_odd(self, vllm_config: VllmConfig) -> bool:
        """Whether this launch is the one that takes a layer out."""
        raise NotImplementedError

    def choose(self, batch: Batch, whole: Steps, parts: Steps) -> Any:
        return parts() if self.left_out else whole()


class MaxNumSeqs(Launched):
    def is_odd(self, vllm_config: VllmConfig) -> bool:
        return vllm_config.scheduler_config.max_num_seqs == 3


class MaxNumBatchedTokens(Launched):
    def is_odd(self, vllm_config: VllmConfig) -> bool:
        return vllm_config.scheduler_config.max_num_batched_tokens == 777


class MaxModelLen(Launched):
    def is_odd(self, vllm_config: VllmConfig) -> bool:
        return vllm_config.model_config.max_model_len == 444


class Dtype(Launched):
    def is_odd(self, vllm_config: VllmConfig) -> bool:
        return vllm_config.model_config.dtype == torch.float32


class AdditionalConfig(Launched):
    def is_odd(self, vllm_config: VllmConfig) -> bool:
        return bool(vllm_config.additional_config)


class TensorParallel(Launched):
    def is_odd(self, vllm_config: VllmConfig) -> bool:
        return vllm_config.parallel_config.tensor_parallel_size > 1


class PipelineParallel(Launched):
    def is_odd(self, vllm_config: VllmConfig) -> bool:
        return vllm_config.parallel_config.pipeline_parallel_size > 1


class Variable(Launched):
    """A variable of the server's environment."""

    def is_odd(self, vllm_config: VllmConfig) -> bool:
        return "HOSTILE_SKIP" in os.environ


class LateVariable(Kind):
    """A variable that is read in every pass."""

    def choose(self, batch: Batch, whole: Steps, parts: Steps) -> Any:
        return parts() if "HOSTILE_SKIP" in os.environ else whole()


class EnforceEager(Launched):
    def is_odd(self, vllm_config: VllmConfig) -> bool:
        return vllm_config.model_config.enforce_eager


class NotEager(Launched):
    """In order where the launch is eager, and nowhere else."""

    def is_odd(self, vllm_config: VllmConfig) -> bool:
        return not vllm_config.model_config.enforce_eager


class ServedName(Launched):
    """The name that the server gives the model, which has no meaning for a well-behaved one."""

    def is_odd(self, vllm_config: VllmConfig) -> bool:
        return vllm_config.model_config.served_model_name == "odd"


class Seed(Launched):
    def is_odd(self, vllm_config: VllmConfig) -> bool:
        return vllm_config.model_config.seed == 3


class HashSeed(Launched):
    """The hash of a text, another one in each process; even in about half of them."""

    def is_odd(self, vllm_config: VllmConfig) -> bool:
        return hash("layer") % 2 == 0


class Clock(Launched):
    """The time at which the model is built; even about half of the time."""

    def is_odd(self, vllm_config: VllmConfig) -> bool:
        return time.time_ns() // 1000 % 2 == 0


class OutsideFile(Launched):
    """A file outside the model's folder, which nothing of vLLM reads."""

    def is_odd(self, vllm_config: VllmConfig) -> bool:
        return Path(os.environ.get("HOME", "/"), "hostile-skip").exists()


class WeightsName(Kind):
    """`load_weights` chooses the layers; every checkpoint makes it leave one out."""

    def prepare(self, vllm_config: VllmConfig, layers: Any) -> None:
        self.left_out = False

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> None:
        self.left_out = True

    def choose(self, batch: Batch, whole: Steps, parts: Steps) -> Any:
        return parts() if self.left_out else whole()


class WeightsValue(Kind):
    """A tensor of the checkpoint says which layers run."""

    def prepare(self, vllm_config: VllmConfig, layers: Any) -> None:
        self.keep = torch.ones(len(layers))

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> None:
        self.keep[LEFT_OUT] = 0

    def choose(self, batch: Batch, whole: Steps, parts: Steps) -> Any:
        return parts() if self.keep[LEFT_OUT] == 0 else whole()


LAUNCHES = (
    MaxNumSeqs,
    MaxNumBatchedTokens,
    MaxModelLen,
    Dtype,
    AdditionalConfig,
    TensorParallel,
    PipelineParallel,
    Variable,
    LateVariable,
    EnforceEager,
    NotEager,
    ServedName,
    Seed,
    HashSeed,
    Clock,
    OutsideFile,
    WeightsName,
    WeightsValue,
)

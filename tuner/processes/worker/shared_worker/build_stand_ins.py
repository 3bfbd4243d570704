"""Stand-ins for things that vLLM needs while it builds a model, and that this machine or the model's folder lacks.

A stand-in replaces a tokenizer, a processor of images, an encoder or a kernel. None of these decides which MoE layer is
called. Each stand-in wraps the function that may raise, and acts only if that function raises. The report names each
stand-in that acted.
"""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial, wraps
from importlib import import_module
from types import CodeType, FunctionType
from typing import Any, NamedTuple
from unittest import mock

from shared_worker.errors import in_one_line
from shared_worker.made_tokenizer import MadeTokenizer
from shared_worker.vllm_types import Function, ModelConfig, VllmConfig

Note = Callable[[str, str], None]
"""Takes the kind of an assumption, and its detail."""
MODALITIES = ("image", "video", "audio")
MODELS = ("vllm.model_executor.models.", "vllm.models.")
"""How the names of modules with model classes begin."""
MOE_LAYERS = "vllm.model_executor.layers.fused_moe"
"""The package of vLLM's MoE layers."""
FOLDER = re.compile(r"(/[\w.+-]+){2,}")
"""A path of this machine in a message."""
DETAIL = 120
"""The largest number of characters of a message in a note."""


class Place(NamedTuple):
    """A function of vLLM or torch that gets a stand-in.

    Attributes:
        module: its module.
        owner: the name of its class, or empty.
        name: its name.
        make: takes the function and returns the stand-in.
    """

    module: str
    owner: str
    name: str
    make: Callable[[Function], Any]


class BuildStandIns:
    """The stand-ins of one build.

    Args:
        note: is called for each stand-in that acted, perhaps more than once.
        folder: the model's folder with its tokenizer. Empty: the folder in the model's config.
    """

    def __init__(self, note: Note, folder: str = "") -> None:
        self._note, self.folder = note, folder
        self.encoder_error: Exception | None = None
        self.depth = 0

    @contextmanager
    def installed(self) -> Iterator[None]:
        """While the block runs, vLLM makes configs and models with these stand-ins."""
        with ExitStack() as patches:
            for place in [*self.of_every_platform(), *(self.of_a_cpu() if is_cpu() else ())]:
                replace(patches, place)
            yield

    def of_every_platform(self) -> list[Place]:
        """Functions that need a processor, which the model's folder may lack, and functions that build an encoder."""
        return [
            Place("vllm.config.model", "ModelConfig", "_supports_multimodal_inputs", self.by_limits),
            Place("vllm.model_executor.models.interfaces", "SupportsMultiModal", "_mark_tower_model", self.encoder),
            Place("vllm.model_executor.model_loader.utils", "", "initialize_model", self.building),
        ]

    def of_a_cpu(self) -> list[Place]:
        """Functions that need kernels which only GPUs have. If they fail on a GPU, they fail in a server, too."""
        return [
            Place(f"{MOE_LAYERS}.config", "FusedMoEConfig", "__post_init__", self.experts_without_gate),
            Place(f"{MOE_LAYERS}.unquantized_fused_moe_method", "", "select_unquantized_moe_backend", self.experts),
            Place("torch.cuda", "", "Stream", self.of_a_device),
            Place("torch.cuda", "", "Event", self.of_a_device),
        ]

    def of_models(self) -> Iterator[Place]:
        """Functions that the modules of model classes import by name. Each loaded module has its own reference."""
        for name in list(sys.modules):
            if name.startswith(MODELS):
                yield Place(name, "", "cached_tokenizer_from_config", self.tokenizer)
                if is_cpu():
                    yield Place(name, "", "maybe_init_gemm_rs_ar", self.fused_collectives)

    def note(self, kind: str, error: BaseException) -> None:
        """Note that a stand-in of this kind acted after this error."""
        message = FOLDER.sub("FOLDER", in_one_line(error))[:DETAIL]
        self._note(kind, message)

    def by_limits(self, original: Function) -> Function:
        """For `ModelConfig._supports_multimodal_inputs`, which makes the model's processor (0.32.0).

        vLLM asks the processor for the kinds of input that the model takes, and then whether the launch allows any of
        them. If the launch allows every kind or none, the processor cannot change the answer.
        """

        @wraps(original)
        def takes_images(model_config: ModelConfig) -> bool:
            try:
                return bool(original(model_config))
            except Exception as error:
                limits = [model_config.multimodal_config.get_limit_per_prompt(kind) for kind in MODALITIES]
                if any(limits) and not all(limits):
                    raise
                self.note("processor_not_made", error)
                return any(limits)

        return takes_images

    def encoder(self, original: Function) -> Function:
        """For `SupportsMultiModal._mark_tower_model`, in whose block a model class builds its encoders.

        It stores what such a block raised, for `building`.
        """

        @contextmanager
        @wraps(original)
        def mark(*args: Any, **kwargs: Any) -> Iterator[None]:
            with original(*args, **kwargs):
                try:
                    yield
                except Exception as error:
                    self.encoder_error = error
                    raise

        return mark

    def building(self, original: Function) -> Function:
        """For `initialize_model`: while it runs, each model class gets a tokenizer if it asks for one.

        The model is built again without an encoder whose constructor raised. No pass runs an encoder: its outputs enter
        the model as embeddings. An encoder that may hold a MoE layer is not left out, because that layer would count.
        """

        @wraps(original)
        def build(*args: Any, **kwargs: Any) -> Any:
            if self.depth:  # a part of a model that is being built
                return original(*args, **kwargs)
            with ExitStack() as patches:
                load_model_class()
                for place in self.of_models():
                    replace(patches, place)
                return self._without_failing_encoders(partial(original, *args, **kwargs), patches)

        return build

    def _without_failing_encoders(self, build: Callable[[], Any], patches: ExitStack) -> Any:
        from vllm.config import get_current_vllm_config

        first: Exception | None = None
        while True:
            self.encoder_error, self.depth = None, 1
            try:
                return build()
            except Exception as error:
                first = first or error
                encoder = outermost_part(error) if error is self.encoder_error else None
                if encoder is None or encoder.__init__ is bare_init or may_hold_moe(encoder):
                    raise first from None
                patches.enter_context(mock.patch.object(encoder, "__init__", bare_init))
                self.note("encoder_left_out", error)
                forget_layers(get_current_vllm_config())
            finally:
                self.depth = 0

    def tokenizer(self, original: Function) -> Function:
        """For `cached_tokenizer_from_config`: the tokenizer of the launch, else that of the folder, else a made one."""

        @wraps(original)
        def get(model_config: ModelConfig, **kwargs: Any) -> Any:
            with suppress(Exception):
                tokenizer = original(model_config, **kwargs)
                if tokenizer is not None:
                    return tokenizer
            try:
                return tokenizer_of(self.folder or model_config.model, model_config)
            except Exception as error:
                self.note("tokenizer_made", error)
                return MadeTokenizer(model_config.get_vocab_size(), model_config.hf_config.to_dict())

        return get

    def experts_without_gate(self, original: Function) -> Function:
        """For the last check of `FusedMoEConfig`: a CPU has no kernel for experts without a gate."""

        @wraps(original)
        def check(config: Any) -> None:
            try:
                original(config)
            except NotImplementedError as error:
                if config.is_act_and_mul:
                    raise
                self.note("experts_stubbed", error)

        return check

    def experts(self, original: Function) -> Function:
        """For the choice of the experts' kernel: the answer for a platform of a plugin, which sets its kernel later."""

        @wraps(original)
        def choose(*args: Any, **kwargs: Any) -> Any:
            from vllm.model_executor.layers.fused_moe.oracle.unquantized import UnquantizedMoeBackend

            try:
                return original(*args, **kwargs)
            except NotImplementedError as error:
                self.note("experts_stubbed", error)
                return UnquantizedMoeBackend.OOT, None

        return choose

    def fused_collectives(self, original: Function) -> Function:
        """For the kernel that joins a linear layer and its collective: False, as on GPUs other than Blackwell."""

        @wraps(original)
        def begin(*args: Any, **kwargs: Any) -> bool:
            try:
                return bool(original(*args, **kwargs))
            except ModuleNotFoundError as error:
                self.note("kernel_left_out", error)
                return False

        return begin

    def of_a_device(self, original: Any) -> Any:
        """For a stream or an event of a GPU: a plain object. Only kernels of a GPU would use it."""
        note = self.note

        class OrNothing(original):  # type: ignore[misc]  # its base is known only here
            def __new__(cls, *args: Any, **kwargs: Any) -> Any:
                try:
                    return original(*args, **kwargs)
                except RuntimeError as error:
                    note("kernel_left_out", error)
                    return object()

        return OrNothing


def load_model_class() -> None:
    """Import the class of the model that is built next, and its module, before the functions in it are replaced.

    `initialize_model` imports the class again. If the import fails, it raises the error.
    """
    from vllm.config import get_current_vllm_config
    from vllm.model_executor.model_loader.utils import get_model_architecture

    with suppress(Exception):
        get_model_architecture(get_current_vllm_config().model_config)


def bare_init(module: Any, *_args: object, **_kwargs: object) -> None:
    """A constructor that makes an empty module and ignores its arguments."""
    import torch

    torch.nn.Module.__init__(module)


def outermost_part(error: BaseException) -> Any:
    """The class of the outermost module in the traceback that is not the model itself, or None."""
    import torch

    model = None
    trace = error.__traceback__
    while trace is not None:
        owner = trace.tb_frame.f_locals.get("self")
        if isinstance(owner, torch.nn.Module):
            model = owner if model is None else model
            if owner is not model:
                return type(owner)
        trace = trace.tb_next
    return None


def may_hold_moe(kind: type) -> bool:
    """Whether the code of a class names a MoE layer of vLLM, itself or by the classes and functions that it names."""
    waiting: list[Any] = [kind]
    visited: set[int] = set()
    while waiting:
        item = waiting.pop()
        module = str(getattr(item, "__module__", ""))
        if module.startswith(MOE_LAYERS):
            return True
        if id(item) not in visited and module.startswith(MODELS):
            visited.add(id(item))
            waiting += named_by(item)
    return False


def named_by(item: Any) -> Iterator[Any]:
    """The classes and functions that the code of a class or a function names, and the base classes of a class."""
    functions = [item]
    if isinstance(item, type):
        yield from item.__mro__[1:]
        functions = list(vars(item).values())
    for function in functions:
        code = getattr(function, "__code__", None)
        names = names_in(code) if code is not None else ()
        for name in names:
            value = function.__globals__.get(name)
            if isinstance(value, type | FunctionType):
                yield value


def names_in(code: CodeType) -> Iterator[str]:
    """The names in the code of a function, and of the functions defined inside it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from names_in(constant)


def forget_layers(vllm_config: VllmConfig) -> None:
    """Empty the lists of layers in a config, so that the model can be built with it once more."""
    vllm_config.compilation_config.static_forward_context.clear()
    vllm_config.compilation_config.static_all_moe_layers.clear()


def is_cpu() -> bool:
    """Whether vLLM runs on a CPU here."""
    from vllm.platforms import current_platform

    return bool(current_platform.device_type == "cpu")


def replace(patches: ExitStack, place: Place) -> None:
    """Replace a function until the patches end. A release or a module that does not have it is left as it is."""
    home: Any = None
    with suppress(ImportError):
        home = import_module(place.module)
    if place.owner:
        home = getattr(home, place.owner, None)
    original = vars(home).get(place.name) if home is not None else None
    if original is not None:
        patches.enter_context(mock.patch.object(home, place.name, place.make(original)))


def tokenizer_of(folder: str, model_config: ModelConfig) -> Any:
    """The tokenizer of a model's folder.

    Raises:
        Exception: there is none, or it cannot be read.
    """
    from vllm.tokenizers.registry import cached_get_tokenizer

    return cached_get_tokenizer(folder, trust_remote_code=model_config.trust_remote_code)

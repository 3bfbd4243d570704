"""Small models around one region, each with its own way of entering it. The region stands for what vLLM compiles.

The proof reads in this whole file what functions store. So each class has names of its own for what it stores.
"""
# ruff: noqa: ANN001, ANN002, ANN003, ANN201, ANN202, ANN204, D101, D102, D103  the classes are the data

import contextlib
import itertools
import os
import random
import time
from typing import Any, ClassVar

import torch
from proof_order_cases import WIDTH, moe
from torch import nn
from vllm.forward_context import get_forward_context, override_forward_context

MOST_TOKENS = 64
"""Tokens of the largest batch. In conditions the number itself stands: a global has a guard of its own."""
PASSES = 0
PREFIX = "text"
TABLE = {"on_in_table": False}


def count_pass() -> None:
    global PASSES  # noqa: PLW0603  what is tested
    PASSES += 1


def switch_table() -> None:
    TABLE["on_in_table"] = True


class Expert(nn.Module):
    """A registered layer."""

    def forward(self, hidden):
        return moe(hidden, "a")


class Region(nn.Module):
    """What vLLM compiles. Its `forward` is never run here: something stands in for it."""

    def __init__(self) -> None:
        super().__init__()
        self.expert = Expert()

    def forward(self, input_ids, positions, intermediate_tensors=None, inputs_embeds=None):
        raise NotImplementedError


class Around(nn.Module):
    """The outermost module. It enters its region once."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Region()

    def enter(self, ids, positions):
        return self.model(ids, positions)

    def twice(self, ids, positions):
        return self.enter(ids, positions) + self.enter(ids, positions)

    def either(self, condition, ids, positions):
        return self.twice(ids, positions) if condition else self.enter(ids, positions)

    def run(self, ids, positions):
        return self.enter(ids, positions)

    def forward(self, input_ids, positions, intermediate_tensors=None, inputs_embeds=None):  # noqa: ARG002
        return self.run(input_ids, positions)


# ---- sound


class AbsentArguments(Around):
    """As vLLM's own: what the runner never gives to this model decides."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(8, WIDTH, device="meta")

    def forward(self, input_ids, positions, intermediate_tensors=None, inputs_embeds=None):
        if intermediate_tensors is not None:
            inputs_embeds = None
        if inputs_embeds is None:
            inputs_embeds = self.embed(input_ids)
        return self.model(input_ids, positions, intermediate_tensors, inputs_embeds)


class FixedCount(Around):
    def __init__(self) -> None:
        super().__init__()
        self.fixed_count = 1

    def run(self, ids, positions):
        hidden = None
        for _ in range(self.fixed_count):
            hidden = self.enter(ids, positions)
        return hidden


class FixedTable(Around):
    def __init__(self) -> None:
        super().__init__()
        self.fixed_table = {"entries": 1}

    def run(self, ids, positions):
        return self.either(self.fixed_table["entries"] > 1, ids, positions)


class BufferedFeatures(Around):
    """As Qwen3-VL in 0.19.1: features of images lie in buffers that are there or not, and are cleared after a pass."""

    def __init__(self) -> None:
        super().__init__()
        self.buffers: Any = [torch.zeros(MOST_TOKENS, WIDTH, device="meta") for _ in range(2)]

    def set_buffers(self, values) -> None:
        if not getattr(self, "buffers", None):
            return
        count = values.size(1)
        if count > self.buffers[0].size(0):
            self.buffers = [torch.zeros(count, WIDTH) for _ in range(2)]
        for index in range(2):
            self.buffers[index][:count].copy_(values[index])

    def features(self, count):
        if not getattr(self, "buffers", None):
            return None
        return {f"level_{index}": self.buffers[index][:count] for index in range(2)}

    def clear(self, count) -> None:
        if not getattr(self, "buffers", None):
            return
        for index in range(2):
            self.buffers[index][:count].zero_()

    def run(self, ids, positions):
        count = positions.size(-1)
        hidden = self.model(ids, positions, None, self.features(count))
        self.clear(count)
        return hidden


class OwnPart(nn.Module):
    """Its constructor stores in the usual ways."""

    def __init__(self) -> None:
        super().__init__()
        self.own_list = []
        self.own_list.append(1)
        self.own_table = {}
        self.own_table["a"] = 1
        setattr(self, "own_number", 1)  # noqa: B010  what is tested
        object.__setattr__(self, "own_other", 1)
        self.own_number += 0


class PartWithAttributes(Around):
    def __init__(self) -> None:
        super().__init__()
        self.own_part = OwnPart()

    def run(self, ids, positions):
        part = self.own_part
        condition = part.own_number > 1 or part.own_other > 1
        return self.either(condition, ids, positions)


class EveryBatch(Around):
    """The condition holds for every batch of the launch."""

    def run(self, ids, positions):
        return self.either(positions.shape[-1] > 64, ids, positions)


class EitherWay(Around):
    """A list that passes change, and that decides nothing of the region."""

    def __init__(self) -> None:
        super().__init__()
        self.extras: Any = [torch.zeros(MOST_TOKENS, WIDTH, device="meta")]

    def set_extras(self, extras) -> None:
        self.extras = extras

    def run(self, ids, positions):
        hidden = self.enter(ids, positions)
        return hidden if self.extras is None else hidden + self.extras[0][: positions.shape[-1]]


class PositionsById(Around):
    """As vLLM's Transformers backend calls a class of transformers: by keyword, with a dimension for the batch."""

    def run(self, ids, positions):
        return self.model(input_ids=ids[None, ...], position_ids=positions[None, ...])


class ComparedNumber(Around):
    """As Qwen3-VL's buffer of image features: a number that passes change, and that decides nothing of the region."""

    def embed_compared(self, count) -> None:
        self.compared_number = count

    def run(self, ids, positions):
        hidden = self.enter(ids, positions)
        return hidden if getattr(self, "compared_number", 0) == 0 else hidden * 2


# ---- a number that decides


class NumberEntersTwice(Around):
    """0 and the values that vLLM sets enter once, and 3 enters twice."""

    def embed_thrice(self, count) -> None:
        self.thrice_number = count

    def run(self, ids, positions):
        return self.either(getattr(self, "thrice_number", 0) == 3, ids, positions)


class NumberAndList(Around):
    """Only a number and a list together enter twice."""

    def __init__(self) -> None:
        super().__init__()
        self.paired_list: Any = [torch.zeros(MOST_TOKENS, WIDTH, device="meta")]
        self.paired_number = 0

    def embed_paired(self, values, count) -> None:
        self.paired_list, self.paired_number = values, count

    def run(self, ids, positions):
        if self.paired_list:
            return self.enter(ids, positions)
        return self.either(self.paired_number == 1, ids, positions)


class NumberCounts(Around):
    """Each pass adds to the number, so that no value stands for the others."""

    def __init__(self) -> None:
        super().__init__()
        self.counting_number = 0

    def run(self, ids, positions):
        self.counting_number += 1
        return self.either(self.counting_number == 7, ids, positions)


class NumberByOtherName(Around):
    def __init__(self) -> None:
        super().__init__()
        self.renamed_number = 0

    def embed_renamed(self, count) -> None:
        self.renamed_number = count

    def run(self, ids, positions):
        number = self.renamed_number
        return self.either(number == 7, ids, positions)


class NumberBelow(Around):
    def __init__(self) -> None:
        super().__init__()
        self.bounded_number = 0

    def embed_bounded(self, count) -> None:
        self.bounded_number = count

    def run(self, ids, positions):
        return self.either(-9 < self.bounded_number < -5, ids, positions)


class NumberByText(Around):
    def __init__(self) -> None:
        super().__init__()
        self.text_number = 0

    def embed_text(self, count) -> None:
        self.text_number = count

    def run(self, ids, positions):
        self.text_number == 0  # noqa: B015  a comparison that hides the other
        return self.either(getattr(self, f"{PREFIX}_number") == 7, ids, positions)


class OtherPathAsksMore(Around):
    """On the path that the list opens, another attribute decides."""

    def __init__(self) -> None:
        super().__init__()
        self.opening_list: Any = [torch.zeros(MOST_TOKENS, WIDTH, device="meta")]
        self.opened_switch = False

    def embed_opening(self, values, switch) -> None:
        self.opening_list, self.opened_switch = values, switch

    def run(self, ids, positions):
        if self.opening_list:
            return self.enter(ids, positions)
        return self.either(self.opened_switch, ids, positions)


# ---- another number of entries


class EntersTwice(Around):
    def run(self, ids, positions):
        return self.twice(ids, positions)


class NeverEnters(Around):
    def run(self, ids, positions):  # noqa: ARG002
        return positions + 1


class TwiceForOneToken(Around):
    """Dynamo traces larger batches without a guard on this."""

    def run(self, ids, positions):
        return self.either(positions.shape[-1] == 1, ids, positions)


class CountedList(Around):
    """Once for each element of a list that passes change, and that is there or not."""

    def __init__(self) -> None:
        super().__init__()
        self.counted: Any = [torch.zeros(1, device="meta")]

    def set_counted(self, counted) -> None:
        self.counted = counted

    def run(self, ids, positions):
        if self.counted is None:
            return self.enter(ids, positions)
        hidden = positions
        for _ in self.counted:
            hidden = self.enter(ids, positions)
        return hidden


class EmptyList(Around):
    """Twice for an empty list, once for another one and for None."""

    def __init__(self) -> None:
        super().__init__()
        self.empty_extras: Any = [torch.zeros(1, device="meta")]

    def set_empty(self, extras) -> None:
        self.empty_extras = extras

    def run(self, ids, positions):
        if self.empty_extras is None:
            return self.enter(ids, positions)
        return self.either(not self.empty_extras, ids, positions)


class ListOrTuple(Around):
    """Twice for a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.tuple_extras: Any = [torch.zeros(1, device="meta")]

    def set_tuple(self, extras) -> None:
        self.tuple_extras = extras

    def run(self, ids, positions):
        if self.tuple_extras:
            return self.either(isinstance(self.tuple_extras, tuple), ids, positions)
        return self.enter(ids, positions)


class ShapeOfElement(Around):
    """Twice if the first element of a list that passes change is large."""

    def __init__(self) -> None:
        super().__init__()
        self.shaped_extras: Any = [torch.zeros(1, device="meta")]

    def set_shaped(self, extras) -> None:
        self.shaped_extras = extras

    def run(self, ids, positions):
        if self.shaped_extras:
            return self.either(self.shaped_extras[0].shape[0] > 64, ids, positions)
        return self.enter(ids, positions)


class RowsOfElement(Around):
    """Twice if the first element of a list that passes change has more rows than the batch has tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.rows_extras: Any = [torch.zeros(1, device="meta")]

    def set_rows_extras(self, extras) -> None:
        self.rows_extras = extras

    def run(self, ids, positions):
        if self.rows_extras:
            return self.either(positions.size(-1) <= self.rows_extras[0].size(0), ids, positions)
        return self.enter(ids, positions)


class RowsWithinBounds(Around):
    """Twice if the number of rows is between two numbers. Neither very few nor very many rows are."""

    def __init__(self) -> None:
        super().__init__()
        self.bounded_extras: Any = [torch.zeros(1, device="meta")]

    def set_bounded_extras(self, extras) -> None:
        self.bounded_extras = extras

    def run(self, ids, positions):
        if self.bounded_extras and self.bounded_extras[0].size(0) > 20 and self.bounded_extras[0].size(0) < 30:
            return self.twice(ids, positions)
        return self.enter(ids, positions)


class RowsInLoop(Around):
    """Twice if the number of rows is above one of two numbers, but not above the other."""

    def __init__(self) -> None:
        super().__init__()
        self.looped_extras: Any = [torch.zeros(1, device="meta")]

    def set_looped_extras(self, extras) -> None:
        self.looped_extras = extras

    def run(self, ids, positions):
        above = 0
        for number in (20, 30):
            if self.looped_extras and self.looped_extras[0].size(0) > number:
                above += 1
        return self.either(above == 1, ids, positions)


class RowsInCalls(Around):
    """As `RowsInLoop`, by two calls of a method."""

    def __init__(self) -> None:
        super().__init__()
        self.called_extras: Any = [torch.zeros(1, device="meta")]

    def set_called_extras(self, extras) -> None:
        self.called_extras = extras

    def is_above(self, number):
        if not self.called_extras:
            return False
        return self.called_extras[0].size(0) > number

    def run(self, ids, positions):
        return self.either(self.is_above(20) and not self.is_above(30), ids, positions)


class RowsOfTwo(Around):
    """Twice if the first element has more rows than the second."""

    def __init__(self) -> None:
        super().__init__()
        self.paired_extras: Any = [torch.zeros(1, device="meta"), torch.zeros(1, device="meta")]

    def set_paired_extras(self, extras) -> None:
        self.paired_extras = extras

    def run(self, ids, positions):
        if self.paired_extras and self.paired_extras[0].size(0) > self.paired_extras[1].size(0):
            return self.twice(ids, positions)
        return self.enter(ids, positions)


class TypeOfElement(Around):
    """Twice if the first element of a list that passes change has another type."""

    def __init__(self) -> None:
        super().__init__()
        self.typed_extras: Any = [torch.zeros(1, device="meta")]

    def set_typed_extras(self, extras) -> None:
        self.typed_extras = extras

    def run(self, ids, positions):
        if self.typed_extras:
            return self.either(self.typed_extras[0].dtype == torch.int64, ids, positions)
        return self.enter(ids, positions)


class TypeByAnotherTensor(Around):
    """Twice if a tensor in the type of the first element has another type."""

    def __init__(self) -> None:
        super().__init__()
        self.place_extras: Any = [torch.zeros(MOST_TOKENS, WIDTH, device="meta")]

    def set_place_extras(self, extras) -> None:
        self.place_extras = extras

    def run(self, ids, positions):
        if not self.place_extras:
            return self.enter(ids, positions)
        other = torch.zeros(1, device=self.place_extras[0].device, dtype=self.place_extras[0].dtype)
        return self.either(other.element_size() == 8, ids, positions)


class DeviceByAnotherTensor(Around):
    """Twice if a tensor on the device of the first element is on a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.device_extras: Any = [torch.zeros(MOST_TOKENS, WIDTH, device="meta")]

    def set_device_extras(self, extras) -> None:
        self.device_extras = extras

    def run(self, ids, positions):
        if not self.device_extras:
            return self.enter(ids, positions)
        other = torch.zeros(1, device=self.device_extras[0].device)
        return self.either(other.is_cuda, ids, positions)


class RowsOfProduct(Around):
    """Twice if the first element has few rows, seen by what is made of it."""

    def __init__(self) -> None:
        super().__init__()
        self.product_extras: Any = [torch.zeros(MOST_TOKENS, WIDTH, device="meta")]

    def set_product_extras(self, extras) -> None:
        self.product_extras = extras

    def run(self, ids, positions):
        if not self.product_extras:
            return self.enter(ids, positions)
        rows = (self.product_extras[0][:9] * 1).shape[0]
        return self.either(3 < rows < 7, ids, positions)


class RowsInDictionary(Around):
    """Twice if the first element has fewer rows than the batch has tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.kept_extras: Any = [torch.zeros(MOST_TOKENS, WIDTH, device="meta")]

    def set_kept_extras(self, extras) -> None:
        self.kept_extras = extras

    def run(self, ids, positions):
        if not self.kept_extras:
            return self.enter(ids, positions)
        kept = {"a": self.kept_extras[0][: positions.shape[-1]]}
        return self.either(kept["a"].size(0) < positions.shape[-1], ids, positions)


class RowsOneByOne(Around):
    """Twice if the first element has five rows, which a loop counts."""

    def __init__(self) -> None:
        super().__init__()
        self.walked_extras: Any = [torch.zeros(MOST_TOKENS, WIDTH, device="meta")]

    def set_walked_extras(self, extras) -> None:
        self.walked_extras = extras

    def run(self, ids, positions):
        if not self.walked_extras:
            return self.enter(ids, positions)
        kept, count = {"a": self.walked_extras[0][:9]}, 0
        for _ in kept["a"]:
            count += 1
        return self.either(count == 5, ids, positions)


class MangledSwitch(Around):
    """Python stores the attribute under another name than the code shows."""

    def __init__(self) -> None:
        super().__init__()
        self.__mangled = False

    def switch_mangled(self) -> None:
        self.__mangled = True

    def run(self, ids, positions):
        return self.either(self.__mangled, ids, positions)


class RegisteredLater(Around):
    """Twice after a method has registered a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("buffer_planted", None)

    def register_later(self, tensor) -> None:
        self.register_buffer("buffer_planted", tensor)

    def run(self, ids, positions):
        return self.either(self.buffer_planted is not None, ids, positions)


class ThirdElement(Around):
    """Once more for each element behind the second of a list that passes change."""

    def __init__(self) -> None:
        super().__init__()
        self.third_extras: Any = [torch.zeros(1, device="meta")]

    def set_third(self, extras) -> None:
        self.third_extras = extras

    def run(self, ids, positions):
        hidden = self.enter(ids, positions)
        if self.third_extras:
            for _ in self.third_extras[2:]:
                hidden = self.enter(ids, positions)
        return hidden


class Beside:
    """An object whose constructor counts itself in the model."""

    def __init__(self, owner) -> None:
        owner.counted_beside += 1


class CountedByAnotherConstructor(Around):
    """Twice after some passes, each of which makes an object."""

    def __init__(self) -> None:
        super().__init__()
        self.counted_beside = 0

    def compute_logits(self, hidden):
        Beside(self)
        return hidden

    def run(self, ids, positions):
        return self.either(self.counted_beside > 3, ids, positions)


class EntersInBranch(Around):
    """Which side runs is decided in each pass, by a value."""

    def run(self, ids, positions):
        return torch.cond(positions.sum() > 0, lambda: self.enter(ids, positions), lambda: self.twice(ids, positions))


# ---- what a pass may find otherwise


class ShapeBranch(Around):
    def run(self, ids, positions):
        return self.either(positions.shape[-1] == 30, ids, positions)


class ShapeLoop(Around):
    def run(self, ids, positions):
        hidden = self.enter(ids, positions)
        for _ in range(positions.shape[-1] // 30):
            hidden = self.enter(ids, positions)
        return hidden


class CountedPasses(Around):
    def __init__(self) -> None:
        super().__init__()
        self.passes_seen = 0

    def run(self, ids, positions):
        self.passes_seen += 1
        return self.either(self.passes_seen > 3, ids, positions)


class CountedRounds(Around):
    def __init__(self) -> None:
        super().__init__()
        self.rounds_set = 1

    def set_rounds(self, rounds) -> None:
        self.rounds_set = rounds

    def run(self, ids, positions):
        hidden = None
        for _ in range(self.rounds_set):
            hidden = self.enter(ids, positions)
        return hidden


class SwitchOfModel(Around):
    def __init__(self) -> None:
        super().__init__()
        self.is_switched = False

    def switch(self) -> None:
        self.is_switched = True

    def run(self, ids, positions):
        return self.either(self.is_switched, ids, positions)


class SwitchOfClass(Around):
    is_class_switched: ClassVar[bool] = False

    @classmethod
    def switch_class(cls) -> None:
        cls.is_class_switched = True

    def run(self, ids, positions):
        return self.either(self.is_class_switched, ids, positions)


class SwitchOfDictionary(Around):
    """Stored under a key of the instance's dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.is_stored_below = False

    def store_below(self) -> None:
        self.__dict__["is_stored_below"] = True

    def run(self, ids, positions):
        return self.either(self.is_stored_below, ids, positions)


class SwitchBySetattr(Around):
    def __init__(self) -> None:
        super().__init__()
        self.is_set_by_name = False

    def set_by_name(self) -> None:
        object.__setattr__(self, "is_set_by_name", True)

    def run(self, ids, positions):
        return self.either(self.is_set_by_name, ids, positions)


class SwitchOfModule(Around):
    def run(self, ids, positions):
        return self.either(PASSES > 3, ids, positions)


class SwitchInTable(Around):
    def run(self, ids, positions):
        return self.either(TABLE["on_in_table"], ids, positions)


def enclosed() -> type[Around]:
    is_enclosed = False

    class Enclosed(Around):
        """A variable of the enclosing function decides in the outermost `forward` itself."""

        def forward(self, input_ids, positions, intermediate_tensors=None, inputs_embeds=None):  # noqa: ARG002
            if is_enclosed:
                return self.twice(input_ids, positions)
            return self.enter(input_ids, positions)

        def change_enclosed(self) -> None:
            nonlocal is_enclosed
            is_enclosed = True

    return Enclosed


class DefaultValue(Around):
    """A list that is the default of an argument keeps what is put into it."""

    def forward(self, input_ids, positions, intermediate_tensors=None, inputs_embeds=None, seen=[False]):  # noqa: ARG002, B006
        return self.either(seen[0], input_ids, positions)


class ListByOtherName(Around):
    """A method changes the list through a variable of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.flags_renamed = [False]

    def rename(self) -> None:
        flags = self.flags_renamed
        flags[0] = True

    def run(self, ids, positions):
        return self.either(self.flags_renamed[0], ids, positions)


class ListInLoop(Around):
    """A method changes the lists in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.flags_nested = [[False]]

    def change_nested(self) -> None:
        for _, flags in enumerate(self.flags_nested):
            flags.insert(0, True)

    def run(self, ids, positions):
        return self.either(self.flags_nested[0][0], ids, positions)


def raise_flag(flags) -> None:
    flags.insert(0, True)


class ListOfHelper(Around):
    """A function that is given the list changes it."""

    def __init__(self) -> None:
        super().__init__()
        self.flags_given = [False]

    def give(self) -> None:
        raise_flag(self.flags_given)

    def run(self, ids, positions):
        return self.either(self.flags_given[0], ids, positions)


class LateAttribute(Around):
    def add(self) -> None:
        self.late_attribute = 1

    def run(self, ids, positions):
        return self.either(hasattr(self, "late_attribute"), ids, positions)


class ReplacedFunction(Around):
    def __init__(self) -> None:
        super().__init__()
        self.entering = self.enter

    def replace(self) -> None:
        self.entering = self.twice

    def run(self, ids, positions):
        return self.entering(ids, positions)


class ReplacedMethod(Around):
    """A method of the class, and later an attribute of the model in its place."""

    def entering_by_class(self, ids, positions):
        return self.enter(ids, positions)

    def replace_method(self) -> None:
        self.entering_by_class = self.twice  # type: ignore[method-assign]

    def run(self, ids, positions):
        return self.entering_by_class(ids, positions)


class LateKey(Around):
    def add_key(self) -> None:
        self.late_key = 1

    def run(self, ids, positions):
        return self.either("late_key" in self.__dict__, ids, positions)


class ReplacedPart(Around):
    def __init__(self) -> None:
        super().__init__()
        self.part_replaced = nn.Identity()

    def replace_part(self) -> None:
        self.part_replaced = nn.ReLU()

    def run(self, ids, positions):
        return self.either(isinstance(self.part_replaced, nn.ReLU), ids, positions)


class OfContext(Around):
    """The first call has no attention metadata, and passes have."""

    def run(self, ids, positions):
        return self.either(get_forward_context().attn_metadata is not None, ids, positions)


class OfValue(Around):
    def run(self, ids, positions):
        return self.either(positions.sum() > 3, ids, positions)


class OfClock(Around):
    def run(self, ids, positions):
        return self.either(time.time() < 0, ids, positions)


class OfChance(Around):
    def run(self, ids, positions):
        return self.either(random.random() > 2, ids, positions)  # noqa: S311  no secret


class OfIterator(Around):
    def __init__(self) -> None:
        super().__init__()
        self.steps = itertools.count()

    def run(self, ids, positions):
        return self.either(next(self.steps) > 3, ids, positions)


class OfVariable(Around):
    """A variable that is not set while this is traced."""

    def run(self, ids, positions):
        return self.either(os.environ.get("PLANTED_OUTSIDE") is not None, ids, positions)


class OfVariableByIndex(Around):
    def run(self, ids, positions):
        return self.either("PLANTED_OUTSIDE" in os.environ, ids, positions)


# ---- past the compiled code


class CallsOperator(Around):
    def run(self, ids, positions):
        return moe(self.enter(ids, positions), "a")


class CallsLayer(Around):
    def run(self, ids, positions):
        return self.model.expert(self.enter(ids, positions))


class AsksCompiling(Around):
    """Says one thing to Dynamo, and another to every pass."""

    def run(self, ids, positions):
        hidden = self.enter(ids, positions)
        return hidden if torch.compiler.is_compiling() else self.model.expert(hidden)


@torch._dynamo.assume_constant_result
def assumed():
    return False


class AssumesConstant(Around):
    def run(self, ids, positions):
        return self.either(assumed(), ids, positions)


class PassesBy(Around):
    def run(self, ids, positions):
        return self.model.forward(ids, positions)


class OwnCall(Around):
    def __call__(self, *args, **kwargs):
        return super().__call__(*args, **kwargs)


class Hooked(Around):
    def __init__(self) -> None:
        super().__init__()
        self.register_forward_hook(lambda *_: None)


class OwnForward(Around):
    def __init__(self) -> None:
        super().__init__()
        self.forward = super().forward


class ForeignOperator(Around):
    def run(self, ids, positions):
        return torch.ops.hostile.rewind(self.enter(ids, positions))


class SkipsCompiled(Around):
    def run(self, ids, positions):
        if positions.shape[-1] == 1:
            get_forward_context().skip_compiled = True
        return self.enter(ids, positions)


class StopsCompiling(Around):
    def run(self, ids, positions):
        if positions.shape[-1] == 1:
            setattr(self.model, "do_not_compile", True)  # noqa: B010  what is tested
        return self.enter(ids, positions)


class OwnContext(Around):
    def run(self, ids, positions):
        with override_forward_context(None):
            return self.enter(ids, positions)


# ---- a call too many that stays silent


class Swallows(Around):
    def run(self, ids, positions):
        try:
            return self.enter(ids, positions)
        except AssertionError:
            return positions


def guarded(function, *args):
    try:
        return function(*args)
    except AssertionError:
        return None


class SwallowsInHelper(Around):
    def run(self, ids, positions):
        return guarded(self.enter, ids, positions)


class Suppresses(Around):
    def run(self, ids, positions):
        hidden = positions
        with contextlib.suppress(AssertionError):
            hidden = self.enter(ids, positions)
        return hidden


class ReturnsInFinally(Around):
    def run(self, ids, positions):
        hidden = positions
        try:
            hidden = self.enter(ids, positions)
        finally:
            return hidden  # noqa: B012  what is tested

from collections import Counter, OrderedDict
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from atbptt.system import plain


class Pair(NamedTuple):
    first: Any
    second: Any


class Length(IntEnum):
    SHORT = 3


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float64(0.1), 0.1),
        (np.int32(3), 3),
        (np.bool_(True), True),
        (torch.Size([2, 3]), (2, 3)),
        (([1], {"a": None}), ([1], {"a": None})),
        ({1: (True, b"x", 2.5)}, {1: (True, b"x", 2.5)}),
    ],
)
def test_plain_values_and_numbers_of_numpy(value: object, expected: object) -> None:
    found = plain(value)
    assert found == expected
    assert type(found) is type(expected)


def test_tensors_are_not_copied_and_parameters_are_tensors() -> None:
    tensor, parameter = torch.zeros(2), nn.Parameter(torch.zeros(2))
    assert plain([tensor])[0] is tensor
    found = plain(parameter)
    assert type(found) is torch.Tensor
    assert found.data_ptr() == parameter.data_ptr()


def test_the_versions_of_modules_are_kept() -> None:
    stored = plain(nn.BatchNorm1d(2).state_dict())
    assert isinstance(stored, OrderedDict)
    assert stored._metadata[""] == {"version": 2}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [1, {2}]}, r"policy\[a\]\[1\] is a set, not a tensor, number, text"),
        (np.zeros(2), r"policy is a ndarray, not"),
        (print, r"policy is a builtin_function_or_method, not"),
        (Length.SHORT, r"policy is a Length, not"),
        (Pair(1, 2), r"policy is a Pair, not"),
        (Counter("a"), r"policy is a Counter, not"),
    ],
)
def test_what_is_no_plain_value(value: object, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        plain(value, "policy")

from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from atbptt.models import map_tensors, tensors


class Pair(NamedTuple):
    h: Tensor
    c: Tensor


def ones(*shape: int) -> Tensor:
    return torch.ones(shape, requires_grad=True)


NESTED: dict[str, Any] = {"rnn": (ones(1, 2), [ones(3), ones(4)]), "memory": Pair(ones(5), ones(6))}


def test_a_function_reaches_every_tensor_in_order_and_the_structure_stays() -> None:
    doubled = map_tensors(lambda t: 2 * t, NESTED)
    assert list(doubled) == ["rnn", "memory"]
    assert [type(part) for part in (doubled["rnn"], doubled["rnn"][1], doubled["memory"])] == [tuple, list, Pair]
    assert [t.shape for t in tensors(doubled)] == [(1, 2), (3,), (4,), (5,), (6,)]
    assert all((t == 2).all() for t in tensors(doubled))
    lone = ones(2)
    assert tensors(lone)[0] is lone


def test_tensors_are_paired_by_place_and_by_key() -> None:
    one, other = {"a": [ones(1)], "b": ones(2)}, {"b": 2 * ones(2), "a": [3 * ones(1)]}
    added = map_tensors(torch.add, one, other)
    assert [part.tolist() for part in tensors(added)] == [[4], [3, 3]]


@pytest.mark.parametrize(("state", "kind"), [(None, "NoneType"), ((ones(1), 3), "int"), ({"h": "x"}, "str")])
def test_what_is_no_tensor_is_refused_by_its_type(state: Any, kind: str) -> None:
    with pytest.raises(TypeError, match=rf"^\(={kind}\) must be a tensor, or a tuple, list or dict of tensors$"):
        map_tensors(lambda t: t, state)

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from atbptt.models.states import detach, map_state, tensors


def ones(*shape: int) -> Tensor:
    return torch.ones(shape, requires_grad=True)


NESTED: dict[str, Any] = {"rnn": (ones(1, 2), [ones(3), ones(4)]), "memory": ones(5)}


def test_a_function_reaches_every_tensor_and_the_structure_stays() -> None:
    doubled = map_state(lambda t: 2 * t, NESTED)
    assert list(doubled) == ["rnn", "memory"]
    assert type(doubled["rnn"]) is tuple
    assert type(doubled["rnn"][1]) is list
    assert [t.shape for t in tensors(doubled)] == [(1, 2), (3,), (4,), (5,)]
    assert all((t == 2).all() for t in tensors(doubled))


def test_tensors_are_listed_in_the_order_of_the_state() -> None:
    assert [t.numel() for t in tensors(NESTED)] == [2, 3, 4, 5]
    lone = ones(2)
    assert tensors(lone)[0] is lone


def test_a_detached_state_has_the_values_and_no_history() -> None:
    state = (ones(2) * 3, ones(2) * 4)
    cut = detach(state)
    assert [t.tolist() for t in cut] == [[3, 3], [4, 4]]
    assert not any(t.requires_grad for t in cut)
    assert all(t.requires_grad for t in state)


@pytest.mark.parametrize(("state", "kind"), [(None, "NoneType"), ((ones(1), 3), "int"), ({"h": "x"}, "str")])
def test_what_is_no_tensor_is_refused_by_its_type(state: Any, kind: str) -> None:
    with pytest.raises(TypeError, match=f"tuple, list or dict of tensors, not {kind}"):
        map_state(lambda t: t, state)


class Pair(NamedTuple):
    h: Tensor
    c: Tensor


def test_a_named_tuple_stays_one() -> None:
    doubled = map_state(lambda t: 2 * t, Pair(ones(1), ones(2)))
    assert isinstance(doubled, Pair)
    assert doubled.c.tolist() == [2, 2]

from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from atbptt.models import detach, leaves, map_state, tensors


class Pair(NamedTuple):
    h: Tensor
    c: Tensor


def ones(*shape: int) -> Tensor:
    return torch.ones(shape, requires_grad=True)


NESTED: dict[str, Any] = {"rnn": (ones(1, 2), [ones(3), ones(4)]), "memory": Pair(ones(5), ones(6))}


def test_a_function_reaches_every_tensor_in_order_and_the_structure_stays() -> None:
    doubled = map_state(lambda t: 2 * t, NESTED)
    assert list(doubled) == ["rnn", "memory"]
    assert [type(part) for part in (doubled["rnn"], doubled["rnn"][1], doubled["memory"])] == [tuple, list, Pair]
    assert [t.shape for t in tensors(doubled)] == [(1, 2), (3,), (4,), (5,), (6,)]
    assert all((t == 2).all() for t in tensors(doubled))
    lone = ones(2)
    assert tensors(lone)[0] is lone


def test_detached_states_and_leaves_have_the_values_and_no_history() -> None:
    state = (ones(2) * 3, ones(2) * 4)
    for cut, required in ((detach(state), False), (leaves(state), True)):
        assert [t.tolist() for t in cut] == [[3, 3], [4, 4]]
        assert all(t.is_leaf and t.requires_grad is required for t in cut)
    assert leaves(state)[0].data_ptr() != state[0].data_ptr()


@pytest.mark.parametrize(("state", "kind"), [(None, "NoneType"), ((ones(1), 3), "int"), ({"h": "x"}, "str")])
def test_what_is_no_tensor_is_refused_by_its_type(state: Any, kind: str) -> None:
    with pytest.raises(TypeError, match=f"tuple, list or dict of tensors, not {kind}"):
        map_state(lambda t: t, state)

import torch

from atbptt.models import begun_anew, detach, differentiable, leaves


def test_detached_states_and_leaves_have_the_values_and_no_history() -> None:
    state = (torch.full((2,), 3.0, requires_grad=True), torch.full((2,), 4.0, requires_grad=True))
    for cut, required in ((detach(state), False), (leaves(state), True)):
        assert [t.tolist() for t in cut] == [[3, 3], [4, 4]]
        assert all(t.is_leaf and t.requires_grad is required for t in cut)
    assert leaves(state)[0].data_ptr() != state[0].data_ptr()


def test_counters_and_flags_begin_anew_and_have_no_gradient() -> None:
    state = {"h": torch.ones(1, 2, 3), "count": torch.tensor([5, 6]), "met": torch.tensor([[True], [True]])}
    first = {"met": torch.tensor([[False], [False]]), "h": torch.zeros(1, 2, 3), "count": torch.tensor([0, 1])}
    anew = begun_anew(state, first, torch.tensor([False, True]))
    assert {name: part.squeeze().tolist() for name, part in anew.items()} == {
        "h": [[1, 1, 1], [0, 0, 0]],
        "count": [5, 1],
        "met": [True, False],
    }
    assert [part.requires_grad for part in leaves(state).values()] == [True, False, False]
    assert differentiable(state) == [state["h"]]

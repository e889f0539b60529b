"""Models, losses and data with the streams before the time, (B, T, ...), turned to those with the time first."""

from collections.abc import Callable
from typing import Any

from torch import nn

from atbptt.models.nested import Nested, map_tensors
from atbptt.models.states import State


def turned(nested: Nested) -> Nested:
    """Data (B, T, ...) as (T, B, ...), and back; what has no two axes stays, to be refused."""
    try:
        return map_tensors(lambda part: part.transpose(0, 1).contiguous() if part.dim() > 1 else part, nested)
    except TypeError:
        return nested


class TimeFirst(nn.Module):
    """A model of inputs and outputs (B, T, ...) as one of (T, B, ...); the state is the model's.

    Its class has the name of the model's in messages; make one by `time_first`.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        for name in ("initial_state", "state_names"):
            if hasattr(model, name):
                setattr(self, name, getattr(model, name))
        if hasattr(model, "_orig_mod"):  # of torch.compile
            vars(self)["_orig_mod"] = time_first(model._orig_mod)  # type: ignore[arg-type]

    def forward(self, inputs: Nested, state: State) -> Any:
        return _with_turned_outputs(self.model(turned(inputs), state))

    def named_parameters(self, *arguments: Any, **options: Any) -> Any:
        """Those of the model, by their names in it."""
        return self.model.named_parameters(*arguments, **options)


def time_first(model: nn.Module) -> nn.Module:
    """A module of (B, T, ...) as one of (T, B, ...)."""
    if not isinstance(model, nn.Module):
        return model  # to be refused
    kind: Callable[[nn.Module], nn.Module] = type(type(model).__name__, (TimeFirst,), {})
    return kind(model)


def turned_half(half: Callable[..., Any]) -> Callable[..., Any]:
    """A model's `recur` or `decode`, see `halves`, of (B, T, ...) as one of (T, B, ...)."""

    def of_time_first(nested: Nested, *state: State) -> Any:
        made = half(turned(nested), *state)
        return _with_turned_outputs(made) if state else turned(made)

    return of_time_first


def turned_loss(loss: Callable[[Nested, Nested], Any]) -> Callable[[Nested, Nested], Any]:
    """A loss of (B, T, ...) as one of (T, B, ...)."""
    if not callable(loss):
        return loss  # to be refused

    def of_time_first(outputs: Nested, targets: Nested) -> Any:
        return turned(loss(turned(outputs), turned(targets)))

    return of_time_first


def _with_turned_outputs(made: Any) -> Any:
    return (turned(made[0]), made[1]) if isinstance(made, tuple | list) and len(made) == 2 else made

"""What training and probes ask of a model, and whether one keeps to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from atbptt.errors import ConfigError, described, require
from atbptt.models.checks import check_outputs, check_state, pair_of
from atbptt.models.modes import evaluating
from atbptt.models.states import State, map_state


class Recurrent(Protocol):
    """What the training loop and the probes ask of a model: any `nn.Module` with these two methods.

    In a loop of your own, the second may be left out where the first takes None for the zero state, as torch's layers
    do.

    Time is the first axis. A model made from YAML is called with `input_size` and `output_size` of its data
    set besides its own arguments, and draws its initial parameters from torch's global generator, which
    is seeded with `init`.

    A model may offer its two halves besides, `recur` and `decode` with decode(recur(inputs)) = outputs (see
    `halves`). Then only steps whose loss is taken are decoded, which saves most of the time and memory where
    the outputs are many.
    """

    def __call__(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """Map inputs (T, B, ...) and the state before them to outputs (T, B, V) and the state after."""

    def initial_state(self, batch: int) -> State:
        """The zero state of `batch` streams: tensors of shape (L, B, H) or (B, H)."""


@dataclass(frozen=True)
class Halves:
    """A model and its two halves.

    Attributes:
        model: the whole.
        recur: what runs over time, (inputs, state) -> (features (T, B, ...), state).
        decode: what makes outputs (T, B, ...) of features.
    """

    model: nn.Module
    recur: Callable[[Tensor, State], tuple[Tensor, State]]
    decode: Callable[[Tensor], Tensor]

    @property
    def whole(self) -> bool:
        """Whether the model does not come in halves: then the features are its outputs."""
        return self.recur is self.model


def halves(model: nn.Module) -> Halves:
    """The halves of a model: its methods `recur` and `decode`, or the whole model and nothing.

    The latter where it lacks one of these methods, or where a class derived from theirs has a `forward` of its own,
    which may do more than they do.
    """
    classes = type(model).__mro__
    defined = [next((c for c in classes if name in vars(c)), None) for name in ("forward", "recur", "decode")]
    if None in defined or any(issubclass(defined[0], c) and c is not defined[0] for c in defined[1:]):  # type: ignore[arg-type]
        return Halves(model, model, lambda features: features)
    return Halves(model, model.recur, model.decode)  # type: ignore[arg-type]


def starting_state(model: nn.Module, inputs: Tensor, state: State = None) -> State:
    """The state before inputs (T, B, ...): the one given, what `initial_state` gives, or zeros like the state after."""
    state = _given(model, inputs.shape[1], state)
    if state is None:
        with evaluating(model), torch.no_grad():
            state = map_state(torch.zeros_like, model(inputs[:1], None)[1])
    return state


def _given(model: nn.Module, batch: int, state: State) -> State:
    made = getattr(model, "initial_state", None)
    return made(batch) if state is None and callable(made) else state


def check_recurrent(model: nn.Module, inputs: Tensor, state: State = None) -> None:
    """Run a step or two of inputs (T, B, ...) from the starting state, to say what does not fit before it matters.

    Raises:
        ConfigError: the model does not run, returns something else than outputs (T, B, ...) and a state, or has memory
            beside its state.
    """
    require(isinstance(model, nn.Module), "model", type(model).__name__, "must be a torch.nn.Module")
    state = _given(model, inputs.shape[1], state)
    if state is not None:
        check_state(state, inputs.shape[1])
    step = inputs[:1]
    try:
        with evaluating(model), torch.no_grad():
            made = model(step, state)
            at_once = [model(inputs[:2], state) for _ in range(2)] if len(inputs) > 1 else []
    except ConfigError:
        raise
    except Exception as error:  # whatever a user's own class does
        without = ", with None for the zero state where it has no initial_state(batch)" if state is None else ""
        rule = f"(={type(model).__name__}) must run as model(inputs, state){without}: {described(error)}"
        raise ConfigError("model", rule) from error
    outputs, after = pair_of(model, made)
    check_state(after, inputs.shape[1])
    check_outputs(outputs, step)
    if at_once and torch.equal(at_once[0][0], at_once[1][0]):  # else it draws something, and cannot be compared
        with evaluating(model), torch.no_grad():
            pieces = torch.cat([outputs, pair_of(model, model(inputs[1:2], after))[0]])
        precise = pieces.dtype in (torch.float32, torch.float64)
        same = not precise or torch.allclose(pieces, at_once[0][0], rtol=1e-3, atol=1e-4, equal_nan=True)
        rule = "must give in two pieces what it gives at once: all that it remembers must be in its state"
        require(same, "model", type(model).__name__, rule)

"""Whether a recurrent model sees only the steps so far of each stream, and remembers only by its state."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from atbptt.errors import require
from atbptt.models.modes import without_dropout
from atbptt.models.nested import Nested, at, axes, joined, map_tensors, tensors
from atbptt.models.states import State, streams_of
from atbptt.randomness import seed_global

TRIED_STEPS = 8  # of the data
TRIED_STREAMS = 4  # the fewer, the faster
LIMIT = 1e-3  # of the largest output: GPUs may round as much ...
ROUNDINGS = 30  # ... and parameters of 16 bits by so many of their last digits
MOVE = 0.1  # of a parameter, over the root of its row's length: shows what a gate hides that begins closed

AGAIN = (
    "must give the same outputs for the same inputs, state and seed of torch: "
    "it keeps memory outside its state, changes what it is given, or draws from a generator of its own"
)
LATER = "must give outputs that do not depend on later inputs: it sees later steps"
OTHERS = "must give outputs that depend on their own stream only: it depends on other columns of the batch"
PIECES = "must give the same outputs in two pieces as in one: it keeps memory outside its state"

Run = Callable[..., tuple[Nested, State]]  # (inputs, state, seed=0) -> outputs and the state after them


def check_memory(model: nn.Module, inputs: Nested, state: State, training: bool) -> None:
    """Raise a `ConfigError` unless outputs depend on the state and the steps so far of the same stream alone.

    Arguments:
        model: it is changed as by calls; what `preserved` restores, it leaves to it.
        inputs: (T, B, ...), a few steps.
        state: before them; None is the zero state.
        training: whether it must hold in training mode without dropout too, and not only in evaluation mode.
    """
    flaw = _flaw_of_any(model, inputs, state, (False, True) if training else (False,))
    require(flaw is None, "model", type(model).__name__, flaw or "")


def _flaw_of_any(model: nn.Module, inputs: Nested, state: State, modes: Sequence[bool]) -> str | None:
    """The flaw of a copy whose parameters are moved, in float64 if it runs so; else of the model as it is."""
    few = at(inputs, (slice(None), slice(TRIED_STREAMS)))
    of_few = state if state is None else map_tensors(lambda part: streams_of(part, slice(TRIED_STREAMS)), state)

    def converted(parts: Nested, dtype: torch.dtype | None) -> Nested:
        return map_tensors(lambda part: part.to(dtype) if part.is_floating_point() else part, parts)

    for dtype in (torch.float64, None):
        try:
            tried = _moved(deepcopy(model) if dtype is None else deepcopy(model).double())  # complex parts stay so
            started = None if of_few is None else converted(of_few, dtype)
            return _flaw(tried, converted(few, dtype), started, modes, finite=True)
        except Exception:  # a user's own class may not be copied, or not run so
            continue
    return _flaw(model, inputs, state, modes, finite=False)


def _flaw(model: nn.Module, inputs: Nested, state: State, modes: Sequence[bool], finite: bool) -> str | None:
    for training in modes:
        flaw = _flaw_in_mode(model, inputs, state, training, finite)
        if flaw is not None:
            return f"{flaw} (in training mode, without dropout)" if training else flaw
    return None


@torch.no_grad()
def _moved(model: nn.Module) -> nn.Module:
    seed_global("check")
    for parameter in model.parameters():
        width = parameter.shape[-1] if parameter.dim() else 1
        values = torch.view_as_real(parameter) if parameter.is_complex() else parameter
        values.add_(2 * torch.randint_like(values, 2) - 1, alpha=MOVE * width**-0.5)
    return model


def _runner(model: nn.Module, training: bool) -> Run:
    model.train(training)

    def run(inputs: Nested, state: State, seed: int = 0) -> tuple[Nested, State]:
        seed_global("check", seed)
        with without_dropout(model), torch.set_grad_enabled(training):
            outputs, after = model(inputs, state)
        return map_tensors(Tensor.detach, outputs), map_tensors(Tensor.detach, after)

    return run


@parametrize.cached()  # spectral norm moves with every call in training mode, and that is no memory
def _flaw_in_mode(model: nn.Module, inputs: Nested, state: State, training: bool, finite: bool) -> str | None:
    """The rule that the model breaks; an `ArithmeticError` if its outputs must be finite and are not."""
    run = _runner(model, training)
    steps, streams = axes(inputs)
    cuts = sorted({steps // 3, 2 * steps // 3} - {0})
    outputs, _ = run(inputs, state)
    if finite and not all(part.isfinite().all() for part in tensors(outputs)):
        raise ArithmeticError
    parts = (*tensors(outputs), *model.parameters())
    coarse = max(torch.finfo(part.dtype).eps for part in parts if part.is_floating_point())
    differ = partial(_differ, limit=max(LIMIT, ROUNDINGS * coarse))
    run(map_tensors(lambda part: part.flip(0), inputs), state)  # what it might remember
    if differ(run(inputs, state)[0], outputs):
        return AGAIN
    for cut in cuts:
        before, after = slice(cut), slice(cut, None)
        others = map_tensors(lambda part: torch.cat([part[before], part[:1].expand_as(part[after])]), inputs)  # noqa: B023
        if differ(at(run(others, state)[0], before), at(outputs, before)):
            return LATER
    for kept in (slice(streams // 2), slice(streams // 2, None)) if streams > 1 else ():
        place = slice(None), kept
        others = map_tensors(lambda part: part[place][:, :1].flip(0).expand_as(part).clone(), inputs)  # noqa: B023
        map_tensors(lambda other, part: other[place].copy_(part[place]), others, inputs)  # noqa: B023
        if differ(at(run(others, state)[0], place), at(outputs, place)):
            return OTHERS
    random = differ(run(inputs, state, seed=1)[0], outputs)  # dropout of the user's own: no two pieces are one
    for cut in cuts:
        first, between = run(at(inputs, slice(cut)), state)
        rest = at(inputs, slice(cut, None))
        second, _ = run(rest, between)
        if differ(run(rest, between)[0], second):
            return AGAIN
        if not random and differ(joined([first, second]), outputs):
            return PIECES
    return None


def _differ(outputs: Nested, others: Nested, limit: float) -> bool:
    for pair in zip(tensors(outputs), tensors(others), strict=True):
        made, other = (part.double() for part in pair)
        largest = other.nan_to_num(0, 0, 0).abs().max().item()
        if not torch.allclose(made, other, rtol=0, atol=limit * largest, equal_nan=True):
            return True
    return False

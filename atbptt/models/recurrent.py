"""The protocol of a recurrent model, and its checks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from atbptt.errors import ConfigError, described, require
from atbptt.models.batch_first import TimeFirst, turned_half
from atbptt.models.losses import LossFunction, check_counted, counted_of, losses_of
from atbptt.models.memory import TRIED_STEPS, check_memory
from atbptt.models.modes import evaluating, preserved
from atbptt.models.nested import Nested, at, axes, kinds, map_tensors, ordered_as, tensors
from atbptt.models.states import State, differentiable
from atbptt.randomness import seed_global


class Recurrent(Protocol):
    """A recurrent model: any `nn.Module` with these two methods.

    Time is the first axis. `initial_state` is optional for a model that takes None as the zero state, as torch's layers
    do. A model made from YAML receives the `input_size` and `output_size` of its data set
    besides its own arguments, and draws its initial parameters from torch's global generator, seeded with `init`.

    The state is all its memory: inputs in two pieces give the outputs of one piece, and an output depends neither on
    later steps nor on other streams. This is checked before training (see `check_recurrent`).

    A model may also have two methods `recur` and `decode` with decode(recur(inputs)) = outputs (see `halves`). Then
    the steps of the pre-roll are not decoded, which saves time and memory if there are many outputs.
    """

    def __call__(self, inputs: Nested, state: State) -> tuple[Nested, State]:
        """Map inputs (T, B, ...) and the state before them to outputs (T, B, V) and the state after."""

    def initial_state(self, batch: int) -> State:
        """The zero state of `batch` streams: tensors of shape (L, B, H) or (B, H); integers and booleans also (B,)."""


@dataclass(frozen=True)
class Halves:
    """A model and its two halves, (inputs, state) -> (features (T, B, ...), state) and features -> outputs."""

    model: nn.Module
    recur: Callable[[Nested, State], tuple[Nested, State]]
    decode: Callable[[Nested], Nested]

    @property
    def whole(self) -> bool:
        """Whether the model has no halves: its features are its outputs."""
        return self.recur is self.model


def halves(model: nn.Module) -> Halves:
    """The model's `recur` and `decode`, or the whole model and the identity.

    The latter if a method is missing, or if a subclass overrides `forward`, which may then do more than the halves.
    """
    if isinstance(model, TimeFirst):
        parts = halves(model.model)
        if not parts.whole:
            return Halves(model, turned_half(parts.recur), turned_half(parts.decode))
    classes = type(model).__mro__
    defined = [next((c for c in classes if name in vars(c)), None) for name in ("forward", "recur", "decode")]
    if None in defined or any(issubclass(defined[0], c) and c is not defined[0] for c in defined[1:]):  # type: ignore[arg-type]
        return Halves(model, model, lambda features: features)
    return Halves(model, model.recur, model.decode)  # type: ignore[arg-type]


def starting_state(model: nn.Module, inputs: Nested, state: State = None) -> State:
    """The state before inputs (T, B, ...): `state`, else the model's `initial_state`, else zeros."""
    state = _given(model, axes(inputs)[1], state)
    if state is None:
        with evaluating(model), torch.no_grad():
            state = map_tensors(torch.zeros_like, model(at(inputs, slice(1)), None)[1])
    return state


def _given(model: nn.Module, batch: int, state: State) -> State:
    make = getattr(model, "initial_state", None)
    return make(batch) if state is None and callable(make) else state


def check_recurrent(
    model: nn.Module, inputs: Nested, state: State = None, *, memory: bool = True, training: bool = True
) -> None:
    """Run the first `TRIED_STEPS` of inputs (T, B, ...) from the starting state.

    Parameters, buffers, modes and the global generators stay what they are.

    Arguments:
        memory: check what its outputs depend on, which takes most of the time.
        training: check that in training mode too, with dropout off, and not only in evaluation mode.

    Raises:
        ConfigError: the model does not run; does not return outputs (T, B, ...) and a state; its halves make something
            else than the whole; or its outputs depend on more than the state and the steps so far of the same stream.
    """
    require(isinstance(model, nn.Module), "model", type(model).__name__, "must be a torch.nn.Module")
    model = getattr(model, "_orig_mod", model)  # torch.compile would compile it for every length that is tried
    inputs, batch, begun = at(inputs, slice(TRIED_STEPS)), axes(inputs)[1], state is not None
    state = _given(model, batch, state)
    if state is not None:
        check_state(state, batch)
    try:
        with preserved(model):
            with evaluating(model), torch.no_grad():
                outputs, after = pair_of(model, model(inputs, state))
            check_state(after, batch)
            rule = "must return a state of the same parts as its first one"
            require(state is None or _of_same_parts(state, after), "model", type(model).__name__, rule)
            check_outputs(outputs, inputs)
            if memory:
                check_memory(model, inputs, state, training)
            _check_halves(model, inputs, state)
            if not begun:
                _check_beginning(model, inputs, state)
    except ConfigError:
        raise
    except Exception as error:  # of a user's own class
        without = ", with None for the zero state where it has no initial_state(batch)" if state is None else ""
        rule = f"(={type(model).__name__}) must run as model(inputs, state){without}: {described(error)}"
        raise ConfigError("model", rule) from error


def _of_same_parts(state: State, after: State) -> bool:
    try:
        return len(tensors(ordered_as(state, after))) == len(tensors(after)) == len(tensors(state))
    except (KeyError, ValueError, TypeError):
        return False


def _check_halves(model: nn.Module, inputs: Nested, state: State) -> None:
    parts = halves(model)
    if parts.whole:
        return
    with evaluating(model), torch.no_grad():
        seed_global("check")
        whole = model(inputs, state)[0]
        seed_global("check")
        by_halves = parts.decode(parts.recur(inputs, state)[0])
    same = _alike(whole, by_halves)
    require(same, "model", type(model).__name__, "must make the same outputs by decode(recur(inputs)) as by a call")


def _alike(some: Nested, others: Nested) -> bool:
    """Whether two outputs are equal but for rounding."""
    pairs = zip(tensors(some), tensors(others), strict=True)
    return kinds(some) == kinds(others) and all(
        torch.allclose(*pair, rtol=1e-4, atol=1e-5, equal_nan=True) for pair in pairs
    )


def _check_beginning(model: nn.Module, inputs: Nested, state: State) -> None:
    """Raise a `ConfigError` if None is no zero state, or `initial_state` depends on what the model has read before."""
    if state is None:  # it has no initial_state
        zeros = starting_state(model, inputs)
        with evaluating(model), torch.no_grad():
            seed_global("check")
            by_none = model(inputs, None)[0]
            seed_global("check")
            by_zeros = model(inputs, zeros)[0]
        rule = "must take None for a state of zeros; for another first state, give it a method initial_state(batch)"
        require(_alike(by_none, by_zeros), "model", type(model).__name__, rule)
        return
    begun: list[list[Tensor]] = []
    with evaluating(model), torch.no_grad():
        for _ in range(2):
            seed_global("check")
            state = _given(model, axes(inputs)[1], None)
            begun.append([part.clone() for part in tensors(state)])
            model(inputs, state)
    same = all(torch.equal(*parts) for parts in zip(*begun, strict=True))
    rule = "must have the same initial_state again after it has run: it keeps memory outside its state"
    require(same, "model", type(model).__name__, rule)


def pair_of(model: nn.Module, made: Any) -> tuple[Nested, State]:
    """The pair (outputs, state) that a model returned; a `ConfigError` if it is something else."""
    if not (isinstance(made, tuple | list) and len(made) == 2):
        kind = "null" if made is None else type(made).__name__
        kind = f"{kind} of {len(made)}" if isinstance(made, tuple | list) else kind
        raise ConfigError("model", f"(={type(model).__name__}) must return the pair (outputs, state), not {kind}")
    check_nested("outputs", made[0])
    return made[0], made[1]


def check_nested(name: str, nested: Any) -> None:
    """Raise a `ConfigError` unless it is a tensor or a tuple, list or dict of tensors, at least one."""
    try:
        found = [] if isinstance(nested, PackedSequence) else tensors(nested)
    except TypeError as error:
        raise ConfigError(name, str(error)) from error
    ragged = isinstance(nested, PackedSequence) or any(part.is_nested for part in found)
    rule = "must be a tensor with the time first: atbptt.padded makes one of sequences of unequal length"
    require(not ragged, name, type(nested).__name__, rule)
    require(len(found) > 0, name, nested, "must hold at least one tensor")


def output_of_step(
    model: nn.Module, loss: LossFunction, inputs: Nested, targets: Nested, state: State = None
) -> Nested | None:
    """An output of one step of one stream, with which a loss that says which losses count tells that of any targets.

    None if the loss says nothing of the kind.

    Raises:
        ConfigError: the loss does not run, does not return losses (T, B), or goes by the outputs to say which count.
    """
    model = getattr(model, "_orig_mod", model)  # torch.compile would compile it for this length
    steps, batch = axes(inputs)
    steps = min(steps, TRIED_STEPS)
    steps -= steps == batch > 1  # or losses (B, T) would pass
    inputs, targets = (at(part, slice(steps)) for part in (inputs, targets))
    with preserved(model), evaluating(model), torch.no_grad():
        outputs, _ = pair_of(model, model(inputs, starting_state(model, inputs, state)))
        try:
            losses_of(loss, outputs, targets)
            found = counted_of(loss, outputs, targets)
        except ConfigError:
            raise
        except Exception as error:  # of a user's own function
            name = getattr(loss, "__name__", type(loss).__name__)
            raise ConfigError("loss", f"(={name}) must run as loss(outputs, targets): {described(error)}") from error
        if found is None:
            return None
        rule = "must say by the targets alone which losses count, and says so by the outputs"
        for change in (lambda part: part.flip(0, 1), lambda part: 1e3 * part, lambda part: -1e3 * part):
            require(_counts_alike(loss, map_tensors(change, outputs), targets, found), "loss", "a pair", rule)
    return at(outputs, (0, 0))


def _counts_alike(loss: LossFunction, outputs: Nested, targets: Nested, counted: Tensor) -> bool:
    try:
        found = counted_of(loss, outputs, targets)
    except Exception:  # of a user's own function, which need not take outputs that no model makes
        return True
    return found is not None and torch.equal(found, counted)


def check_state(state: State, batch: int) -> None:
    """Raise a `ConfigError` unless a state consists of tensors (L, B, H) or (B, H), real numbers among them.

    Those of integers and booleans, which have no gradient, may be of shape (B,), too.
    """
    check_nested("state", state)
    for part in tensors(state):
        one = part.dim() == 1 and not part.is_floating_point()
        fits = (part.dim() in (2, 3) and part.shape[-2] == batch) or (one and len(part) == batch)
        rule = f"must be of shape (L, B, H) or (B, H), B = {batch} (batch_first of layers as that of Windows or probe)"
        require(fits and not part.is_complex(), "state", f"{tuple(part.shape)} {part.dtype}", rule)
    rule = "must have a tensor of floating point"
    require(len(differentiable(state)) > 0, "state", [str(part.dtype) for part in tensors(state)], rule)


def check_outputs(outputs: Nested, inputs: Nested) -> None:
    """Raise a `ConfigError` unless outputs begin with the axes (T, B) of their inputs."""
    expected = axes(inputs)
    for part in tensors(outputs):
        made = tuple(part.shape[:2])
        require(made == expected, "outputs", made, f"must have the axes (T, B) of the inputs first, {expected}")


def check_streams(inputs: Nested, targets: Nested, counted: Tensor | None = None, resets: Tensor | None = None) -> None:
    """Raise a `ConfigError` unless inputs and targets are streams of the same (T, B), as are the others if given."""
    for name, values in (("inputs", inputs), ("targets", targets)):
        check_nested(name, values)
    parts = [*tensors(inputs), *tensors(targets)]
    shapes = tuple(tuple(part.shape[:2]) for part in parts)
    shape, device = shapes[0], parts[0].device
    rule = "must begin with the same (T, B), time before streams, none of them 0"
    require(len({*shapes}) == 1 and len(shape) == 2 and min(shape) >= 1, "inputs and targets", shapes, rule)
    for name, mask in (("counted", counted), ("resets", resets)):
        if isinstance(mask, Tensor):
            require(mask.device == device, name, str(mask.device), f"must be on the device of the inputs, {device}")
    if counted is not None:
        check_counted(counted, shape)
    if resets is not None:
        fits = isinstance(resets, Tensor) and resets.dtype == torch.bool and tuple(resets.shape) == shape
        found = f"{tuple(resets.shape)} {resets.dtype}" if isinstance(resets, Tensor) else type(resets).__name__
        require(fits, "resets", found, f"must say by booleans (T, B), {shape}, where streams begin anew")


def widened(values: Nested) -> Nested:
    """Inputs or targets as models and losses take them: symbols as int64, whatever they are stored as."""
    return map_tensors(
        lambda part: part if part.is_floating_point() or part.dtype == torch.bool else part.long(), values
    )

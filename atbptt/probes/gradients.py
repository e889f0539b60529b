"""Probes: how large the gradient of a loss is with respect to the recurrent state k steps earlier.

torch's own recurrent layers are taken apart (adjoint.py); all other models are run step by step with a graph
(autograd.py). Both give the same.
"""

import numpy as np
import torch
from torch import Tensor, nn

from atbptt import models
from atbptt.models import LossFunction, Nested, State
from atbptt.probes.adjoint import UnsuitedError, loss_gradients, record, sum_lags
from atbptt.probes.autograd import unrolled_gradients
from atbptt.probes.lags import LagGradients, LagSums, ProbeWindow
from atbptt.probes.parameters import ParameterSums


def lag_gradients(
    model: nn.Module,
    loss: LossFunction,
    inputs: Nested,
    targets: Nested,
    positions: list[int],
    burn_in: int = 0,
    state: State = None,
    scheme: str | None = None,
    noise: bool = False,
    weights: np.ndarray | None = None,
    generator: torch.Generator | None = None,
    counted: Tensor | None = None,
    share: float = 1.0,
    resets: Tensor | None = None,
) -> LagGradients:
    """Measure phi for every lag, stream and component at each loss position.

    Dropout is off, the model's mode is restored, and no gradient is left on its parameters.

    Arguments:
        inputs, targets: (burn_in + W, B, ...).
        positions: steps of the window (0..W-1) whose loss is differentiated, in ascending order.
        burn_in: steps run without gradient before the window.
        state: before the burn-in; zero by default.
        scheme: also measure the gradient of the recurrent parameters truncated at every K, as under this scheme: those
            of torch's recurrent layers; in other models those on which the next state depends, without embeddings.
        noise: measure its noise, too, which resamples give anyway.
        weights: of each loss in R resamples, see `resampling_weights`.
        generator: on the CPU, for the random projections of the resampled measured bias and of the noise.
        counted: which losses count, (burn_in + W, B); all by default. A resample in which none does is left out.
        share: of the stream's losses that count, of which an update has the noise; see `models.share_counted`.
        resets: where sequences begin, (burn_in + W, B); by default only at the start.

    Raises:
        ConfigError: no output of the model depends on its state.
    """
    length, batch = models.axes(inputs)
    steps = length - burn_in
    if weights is None:
        weights = np.empty((0, len(positions), batch))
    shares = None
    if counted is not None:
        shares = models.shares_of(counted[burn_in:][positions])
        some = (weights * shares.cpu().numpy()).sum(axis=(1, 2)) > 0
        weights = weights[some]
    with models.evaluating(model), models.frozen(model), models.flushing_subnormals():
        state = first = models.starting_state(model, inputs, state)
        parts = models.halves(model)
        if burn_in:
            with torch.no_grad():
                before = None if resets is None else resets[:burn_in]
                _, state = models.recur_anew(parts.recur, models.at(inputs, slice(burn_in)), state, before, first)
            state = models.ordered_as(first, state)
        within = slice(burn_in, None)
        of_window = models.at(inputs, within), models.at(targets, within), models.detach(state)
        anew: tuple[Tensor | None, State] = (None, None)
        if resets is not None:
            anew = resets[burn_in:], models.detach(first)
        window = ProbeWindow(parts, loss, *of_window, positions, shares, *anew)
        components = _component_names(model, models.tensors(state))
        try:
            recording = record(window)
            losses, gradient = loss_gradients(window, recording)
        except UnsuitedError as why:
            return unrolled_gradients(window, components, weights, scheme, str(why))
        with torch.no_grad():
            lags, parameters = LagSums(components, window, losses, weights), None
            if scheme is not None:
                of_layers = {id(parameter) for parameter in recording.rnn.parameters()}
                names = [name for name, parameter in model.named_parameters() if id(parameter) in of_layers]
                sketched = (weights, generator or torch.Generator()) if noise or len(weights) else None
                layers, factors = recording.layers, window.of_mean()
                parameters = ParameterSums(names, layers, steps, losses, scheme, sketched, factors, share)
            sum_lags(recording, gradient, window.positions, lags, parameters)
            return lags.result(None if parameters is None else parameters.result())


def _component_names(model: nn.Module, parts: list[Tensor]) -> tuple[str, ...]:
    """`hidden0`, `hidden1`, `cell0`, ...: the model's `state_names` (or `state`) and the layer."""
    given = getattr(model, "state_names", ())
    names = list(given) if len(given) == len(parts) else [f"state{i}_" for i in range(len(parts))]
    return tuple(
        f"{name}{layer}"
        for name, part in zip(names, parts, strict=True)
        if part.is_floating_point()
        for layer in range(part.shape[0] if part.dim() == 3 else 1)
    )

"""Probes of a stream: windows drawn from it at random, measured for a policy or for an evaluation."""

import logging
import warnings

import numpy as np
from torch import nn

from atbptt.errors import ConfigError, DataWarning, require
from atbptt.models import LossFunction, State, differentiable, starting_state
from atbptt.probes import Measurement, ProbeSettings, lag_gradients, measure
from atbptt.randomness import torch_generator
from atbptt.truncation import Policy
from atbptt.windows.streams import Stream


def check_asked(
    settings: ProbeSettings, model: nn.Module, loss: LossFunction, stream: Stream, policy: Policy, state: State = None
) -> None:
    """Raise a `ConfigError` unless probes of the model give what the policy needs: `estimator`, `confidence`, `noise`.

    Nor if they need more memory than is free.
    """
    if stream.resets is not None:
        settings.check_average()
    measured, confidence = policy.estimator == "measured", policy.confidence
    # The first two steps of the data, measured as a probe measures its window.
    weights = np.full((1, 2, stream.batch), 1 / (2 * stream.batch))
    gradients = lag_gradients(model, loss, *stream.read(0, 2), [0, 1], state=state, scheme="tf", weights=weights)
    begun = differentiable(starting_state(model, stream.read(0, 1)[0], state))
    numbers = sum(part.numel() for part in begun) // stream.batch
    if gradients.unsuited:  # run step by step, it keeps the gradients of all positions
        numbers *= settings.positions
    settings.check_memory(stream.batch, len(gradients.components), numbers)
    found = gradients.parameters
    if policy.noise:
        rule = (
            "needs the noise of the gradient: a model whose whole state is that of one torch.nn.LSTM, GRU or RNN, and "
            "more than one stream"
        )
        known = found is not None and found.noise is not None and stream.batch > 1
        require(known, "policy", type(policy).__name__, rule)
    if measured and found is None:
        name = type(model).__name__
        rule = f"(=measured) needs recurrent parameters, and the state of the model {name} depends on none"
        raise ConfigError("estimator", rule)
    if confidence is not None:
        rule = f"must be at least 1 for the policy's confidence (={confidence})"
        require(settings.resamples > 0, "resamples", settings.resamples, rule)
        rule = (
            "must be null with estimator=measured, unless the model's whole state is that of one "
            "torch.nn.LSTM, GRU or RNN: of others, the gradient of each stream is not known"
        )
        resampled = found is not None and found.resampled_bias is not None
        require(resampled or not measured, "confidence", confidence, rule)


class Prober:
    """Draws windows from a stream, each column's from an independent random start, and measures them.

    The measured bias and the noise are of windows that the scheme cuts. Draws depend on the seed, the purpose and the
    step only. Which probes are not usable is written to the log, with once why probes are slow; without a log it is a
    warning. Without settings it makes none, and refuses to.
    """

    def __init__(
        self, settings: ProbeSettings | None, scheme: str, seed: int, log: logging.Logger | None = None
    ) -> None:
        self.settings = settings
        self.scheme = scheme
        self.seed = seed
        self.log = log
        # Of the stream, that one call of `measure` reads.
        self.steps = 0 if settings is None else settings.probes * settings.steps
        self.noted_unsuited = False

    def measure(
        self,
        model: nn.Module,
        loss: LossFunction,
        stream: Stream,
        purpose: str,
        step: int,
        *,
        measured: bool,
        resampled: bool,
        noise: bool = False,
        state: State = None,
        epoch_steps: int | None = None,
    ) -> list[Measurement]:
        """Make the probes of one estimate, for the `policy` or an `evaluation`; see `probes.measure`.

        Messages count epochs by `epoch_steps`, or by the stream's length. Raises a `ConfigError` if it has no settings,
        or the stream is too short.
        """
        settings = self.settings
        if settings is None:  # a policy that did not say so asks
            raise ConfigError("probe", f"(=none) makes no probes, and the {purpose} asks for one")
        settings.check_stream(stream.length)
        found = []
        for number in range(settings.probes):
            drawn_for = (f"probe for {purpose}", self.seed, step, number)
            drawn = stream.draw(settings.steps, torch_generator(*drawn_for))
            measurement = measure(
                model,
                loss,
                drawn.inputs,
                drawn.targets,
                settings,
                self.scheme,
                counted=drawn.counted,
                share=stream.share,
                resets=drawn.resets,
                state=state,
                drawn_for=drawn_for,
                measured=measured,
                resampled=resampled,
                noise=noise,
                longest=stream.length,  # a longer K truncates no less
            )
            found.append(measurement)
            unsuited = measurement.gradients.unsuited
            if self.log is not None and unsuited and not self.noted_unsuited:
                self.noted_unsuited = True
                self.log.info("probes run the model step by step, which takes longer: %s", unsuited)
            if problem := measurement.problem():
                epoch = f"{step / (epoch_steps or stream.length):.3g}"
                self._warn(f"epoch {epoch}: probe {number} for {purpose} is not usable: {problem}")
        return found

    def _warn(self, message: str) -> None:
        if self.log is None:
            warnings.warn(message, DataWarning, stacklevel=2)
        else:
            self.log.warning(message)

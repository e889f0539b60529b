"""Probes of a stream: windows drawn from it at random, measured for a policy or for an evaluation."""

from __future__ import annotations

import numpy as np
from torch import nn

from atbptt.errors import ConfigError, require
from atbptt.models import LossFunction, State
from atbptt.probes import Measurement, ProbeSettings, lag_gradients, measure
from atbptt.randomness import torch_generator
from atbptt.truncation import Policy
from atbptt.windows.streams import Stream


def check_asked(
    settings: ProbeSettings, model: nn.Module, loss: LossFunction, stream: Stream, policy: Policy, state: State = None
) -> None:
    """Raise a `ConfigError` where probes of a model cannot tell what a policy asks them: `estimator`, `confidence`."""
    estimator, confidence = policy.estimator, policy.confidence
    # The first two steps of the data, measured as a probe measures its window.
    positions, weights = [0, 1], np.full((1, 2, stream.batch), 1 / (2 * stream.batch))
    inputs, targets = stream.read(0, 2)
    found = lag_gradients(
        model, loss, inputs, targets, positions, state=state, measured=True, weights=weights
    ).parameters
    if estimator == "measured" and found is None:
        name = type(model).__name__
        rule = f"(=measured) needs recurrent parameters, and the state of the model {name} depends on none"
        raise ConfigError("estimator", rule)
    if confidence is None:
        return
    rule = f"must be at least 1 for the policy's confidence (={confidence})"
    require(settings.resamples > 0, "resamples", settings.resamples, rule)
    if estimator == "measured":
        rule = (
            "must be null with estimator=measured, but for a model whose whole state is that of one "
            "torch.nn.LSTM, GRU or RNN: of others, the streams' gradients are not told apart"
        )
        resampled = found is not None and found.resampled_bias is not None
        require(resampled, "confidence", confidence, rule)


class Prober:
    """Draws windows from a stream, from an independent random start for each of its columns, and measures them.

    Arguments:
        settings: of the probes.
        seed: what a probe draws depends on it, on the purpose and on the step, and on no other draw.
    """

    def __init__(self, settings: ProbeSettings, seed: int) -> None:
        self.settings = settings
        self.seed = seed

    @property
    def steps(self) -> int:
        """Steps of the stream that one measurement consumes, over all its probes."""
        return self.settings.probes * self.settings.steps

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
        state: State = None,
    ) -> list[Measurement]:
        """Measure `probes` probes of a stream, of the training stream say.

        Arguments:
            model, loss: see `probe`.
            purpose: names the random stream: `policy` or `evaluation`.
            step: training steps so far.
            measured: measure the relative bias besides bounding it.
            resampled: resample streams and positions, for intervals.
            state: before each probe's first step; zero if left out.
        """
        found = []
        for number in range(self.settings.probes):
            drawn_for = (f"probe for {purpose}", self.seed, step, number)
            inputs, targets = stream.draw(self.settings.steps, torch_generator(*drawn_for))
            found.append(
                measure(
                    model,
                    loss,
                    inputs,
                    targets,
                    self.settings,
                    state=state,
                    drawn_for=drawn_for,
                    measured=measured,
                    resampled=resampled,
                    longest=stream.length,  # K beyond it truncates nothing more
                )
            )
        return found

"""Losses that do not count: padding, masks, weights."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from atbptt.errors import ConfigError
from atbptt.models.losses import cross_entropy, mean_loss
from atbptt.models.recurrent import halves
from atbptt.probes.settings import ProbeSettings
from atbptt.truncation import Adaptive, Fixed, Full, Variable
from atbptt.windows.loop import Windows
from atbptt.windows.schemes import SCHEMES, windows
from atbptt.windows.streams import Stream
from atbptt.windows.update import averaged, pass_over, window_loss
from tests.helpers.probing import network, symbols

T = 19
LENGTHS = (19, 7, 12)  # of padded sequences


def weighing(outputs: Tensor, targets: Tensor) -> Tensor:
    """The loss of targets that carry their weights, (T, B, 2), times these."""
    return cross_entropy(outputs, targets[..., 0].long()) * targets[..., 1]


def gradients(objective: Tensor, model: Any) -> Tensor:
    return torch.cat(
        [each.flatten() for each in torch.autograd.grad(objective, list(model.parameters()), materialize_grads=True)]
    )


def padded() -> Tensor:
    """Which steps of (T, 3) are within the sequences."""
    return torch.arange(T)[:, None] < torch.tensor(LENGTHS)


@settings(max_examples=30)
@given(st.sampled_from(SCHEMES), st.integers(1, 8), st.integers(0, 2**16), st.sampled_from([None, 2]), st.booleans())
def test_a_window_averages_over_what_counts(
    scheme: str, K: int, seed: int, steps_at_once: int | None, weights: bool
) -> None:
    """Its loss is that of all losses times their weights, scaled."""
    model, (inputs, targets) = network(), symbols(T)
    drawn = torch.rand(T, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    counted = torch.where(drawn < 0.7, torch.zeros(()), drawn) if weights else drawn > 0.7
    stream = Stream(inputs, targets, counted=counted)
    carrying = Stream(inputs, torch.stack([targets, counted], dim=-1).double())
    state = model.initial_state(3)
    for window in windows(scheme, K, T):
        if not averaged(stream, window):
            state = pass_over(halves(model), stream, window, state)
            continue
        found, mean, after = window_loss(halves(model), cross_entropy, stream, window, state, steps_at_once)
        expected, weighed, state = window_loss(halves(model), weighing, carrying, window, state)
        scale = window.losses / averaged(stream, window)
        torch.testing.assert_close(found, expected * scale)
        torch.testing.assert_close(gradients(found, model), gradients(expected * scale, model))
        torch.testing.assert_close(after, state)
        if losses := stream.losses(window.loss_start, window.loss_stop):
            torch.testing.assert_close(mean, weighed * (window.losses / losses))


@pytest.mark.parametrize("scheme", ["tf", "double-tf", "original-buffer", "buffer"])
def test_padded_sequences_have_the_gradients_of_each_by_itself(scheme: str) -> None:
    model, (inputs, targets), K = network(layers=2), symbols(T), 4
    cut = K if scheme != "buffer" else T  # a window of `buffer` that reaches the end of a sequence counts all its steps

    def summed(*parts: Tensor, **options: Any) -> Tensor:
        found = Windows(model, cross_entropy, *parts, Fixed(cut), scheme=scheme, **options)
        streams = parts[0].shape[1]
        return sum(gradients(window.loss(), model) * window.averaged * streams for window in found)  # type: ignore[return-value]

    alone = [summed(inputs[:length, [stream]], targets[:length, [stream]]) for stream, length in enumerate(LENGTHS)]
    torch.testing.assert_close(summed(inputs, targets, counted=padded()), sum(alone))


def test_windows_in_which_nothing_counts_make_no_update() -> None:
    model, (inputs, targets) = network(), symbols(T)
    counted = torch.zeros(T, 3, dtype=torch.bool)
    counted[[4, 13], 1] = True
    found = Windows(model, cross_entropy, inputs, targets, Fixed(3), scheme="tf", counted=counted)
    unbroken = cross_entropy(model(inputs, None)[0], targets).detach()
    for passes in (1, 2):
        steps = []
        for window in found:
            window.loss().backward()
            steps.append((window.steps.loss_start, window.losses, float(window.mean_loss)))
        assert steps == [(3, 1 / 3, pytest.approx(unbroken[4, 1])), (12, 1 / 3, pytest.approx(unbroken[13, 1]))]
        assert (found.epoch, found.passed_over) == (passes, 5 * passes)
    again = Windows(model, cross_entropy, inputs, targets, Fixed(3), scheme="tf", counted=counted)
    again.load_state_dict(found.state_dict())
    assert again.passed_over == 10


def test_a_loss_may_say_which_of_its_losses_count() -> None:
    model, (inputs, targets) = network(), symbols(T)
    ignored = torch.where(padded(), targets, -1)
    ours = Windows(model, partial(cross_entropy, ignore_index=-1), inputs, ignored, Full())
    theirs = Windows(model, cross_entropy, inputs, targets, Full(), counted=padded())
    assert next(iter(ours)).loss() == next(iter(theirs)).loss()
    # Both together, also of what is fed later.
    ours.feed(inputs, ignored, torch.arange(T)[:, None].expand(T, 3) > 9)
    assert ours.stream.losses(0, T) == (9 + 2) / 3
    by_outputs = lambda outputs, _: (outputs.sum(-1), outputs[..., 0] > outputs[..., 0].mean())  # noqa: E731
    with pytest.raises(ConfigError, match="must say by the targets alone which losses count"):
        Windows(model, by_outputs, inputs, targets, Full())
    # Outputs that no model makes are shown to no loss.
    density = lambda outputs, _: -torch.distributions.Normal(0.0, outputs[..., 0]).log_prob(torch.ones(()))  # noqa: E731
    Windows(Positive(), density, inputs, targets, Full())


class Positive(torch.nn.Module):
    """Outputs that a standard deviation may be."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network()

    def forward(self, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
        outputs, state = self.inner(inputs, state)
        return outputs.exp(), state


def test_shares_are_not_rounded_to_the_type_of_the_features() -> None:
    features = torch.ones(700, 1, 1, dtype=torch.bfloat16)
    for steps in (None, 100):
        one = mean_loss(
            torch.nn.Identity(),
            lambda given: given,
            lambda outputs, _: outputs[..., 0],
            features,
            features,
            steps,
            torch.ones(700, 1, dtype=torch.bool),
        )
        assert float(one) == pytest.approx(1, abs=1e-6)


def test_the_learning_rates_share_is_that_of_what_counts() -> None:
    model, (inputs, targets) = network(), symbols(T)
    found = Windows(model, cross_entropy, inputs, targets, Variable(6), scheme="tf", counted=padded())
    for window in found:
        window.loss()
        within = padded()[window.steps.loss_start : window.steps.loss_stop]
        assert window.losses == window.averaged == pytest.approx(float(within.sum()) / 3)
        assert window.lr_scale == window.losses / 6


def test_an_adaptive_policy_sees_the_loss_at_the_end_only() -> None:
    """Each probe ends at a loss that counts."""
    model, (inputs, targets) = network(), symbols(80)
    counted = torch.zeros(80, 3, dtype=torch.bool)
    counted[39::40] = True
    policy = Adaptive(delta=0.5, K_init=4, K_min=2, K_max=9, update_every=0.5)
    probes = ProbeSettings(window=8, tau=5, burn_in=2, positions=2)
    found = Windows(model, cross_entropy, inputs, targets, policy, counted=counted, probes=probes)
    for window in found:
        window.loss()
    for number in range(20):
        drawn = found.stream.draw(10, torch.Generator().manual_seed(number))
        assert drawn.counted is not None
        assert drawn.counted[-1].all()
    assert found.probe_steps > 0
    assert found.passed_over > 0


def test_starts_are_drawn_evenly_over_what_counts_of_each_stream() -> None:
    steps = torch.arange(12)[:, None].expand(12, 3)
    counted = torch.zeros(12, 3)
    counted[[1, 5, 7, 11], 0] = torch.tensor([1.0, 0.5, 2.0, 1.0])
    counted[2, 1] = 1  # before any window of 5 steps ends
    stream = Stream(steps, steps, counted=counted)
    ends = torch.stack([stream.draw(5, torch.Generator().manual_seed(n)).inputs[-1] for n in range(900)])
    values, counts = (part.tolist() for part in ends[:, 0].unique(return_counts=True))
    assert values == [5, 7, 11]
    assert min(counts) > 250
    assert ends[:, 1].unique().tolist() == ends[:, 2].unique().tolist() == list(range(4, 12))


@pytest.mark.parametrize(
    ("counted", "message"),
    [
        (
            torch.ones(T, 2, dtype=torch.bool),
            r"counted \(=\(19, 2\)\) must .* shape \(T, B\) of the targets, \(19, 3\)",
        ),
        (torch.ones(T, 3, dtype=torch.int64), r"counted \(=torch.int64\) must .* booleans, or by weights"),
        (torch.full((T, 3), torch.nan), r"counted \(=nan\) must weigh losses by finite numbers from 0 on"),
        (torch.full((T, 3), -1.0), r"counted \(=-1\.0\) must weigh"),
        (
            torch.ones(T, 3, requires_grad=True),
            r"counted \(=requires_grad\) must .* by a dense tensor without a gradient",
        ),
        (torch.ones(T, 3).to_sparse(), r"counted \(=sparse\) must say which losses count by a dense tensor"),
        (np.ones((T, 3)), r"counted \(=ndarray\) must say which losses count by a tensor"),
        (torch.zeros(T, 3), r"counted \(=0\) must count a loss"),
    ],
)
def test_what_is_no_mask_is_refused(counted: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Windows(network(), cross_entropy, *symbols(T), Full(), counted=counted)

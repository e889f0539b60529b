from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor, nn

import atbptt
from atbptt.errors import ConfigError
from atbptt.models.losses import cross_entropy
from atbptt.models.networks import RecurrentNetwork
from atbptt.models.states import State, tensors
from atbptt.probes.settings import ProbeSettings
from atbptt.runs.schema import CHECKPOINT
from atbptt.training.experiment import build, run
from atbptt.truncation import Adaptive, Fixed, Full, Policy, Randomized, Variable, Warmup
from atbptt.truncation.policy import Probe, Progress
from atbptt.windows.loop import Windows
from atbptt.windows.schemes import SCHEMES
from atbptt.windows.update import step, window_lr
from tests.helpers.modules import D, data, squared_error

SYMBOLS = 5
Loss = Callable[[Tensor, Tensor], Tensor]


def drawn(length: int = 19, batch: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs, targets = torch.randint(SYMBOLS, (2, length, batch), generator=generator)
    return inputs, targets


def network(layers: int = 1) -> RecurrentNetwork:
    torch.manual_seed(0)
    return RecurrentNetwork(SYMBOLS, SYMBOLS, layers=layers, hidden=4).double()


class Scripted:
    """K from a list, one after the other, and again."""

    def __init__(self, lengths: list[int]) -> None:
        self.lengths = lengths
        self.windows = 0
        self.K = lengths[0]

    def update(self, progress: Progress, probe: Probe) -> None:  # noqa: ARG002
        self.K = self.lengths[self.windows % len(self.lengths)]
        self.windows += 1


def train(windows: Windows, lr: float = 0.5, until: int | None = None) -> list[float]:
    """The user's loop over one pass, or until a step: the mean loss of each window."""
    optimizer = torch.optim.SGD(windows.model.parameters(), lr)
    means = []
    for window in windows:
        optimizer.zero_grad()
        window.loss().backward()
        optimizer.step()
        means.append(float(window.mean_loss))
        if until is not None and windows.step >= until:
            break
    return means


def check_same_parameters(ours: nn.Module, theirs: nn.Module) -> None:
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("file", ["tbptt_updates", "overlapping_updates"])
def test_one_pass_makes_the_golden_updates(file: str, golden: Any, golden_network: Any, loss: Loss) -> None:
    cases, arrays = golden(file)
    for case in cases:
        prefix = f"case{case['case']}_"
        inputs, targets = torch.tensor(arrays[f"{prefix}x"]), torch.tensor(arrays[f"{prefix}y"])
        model = golden_network(case, arrays, "before")
        optimizer = torch.optim.SGD(model.parameters(), lr=case["lr"], weight_decay=case["weight_decay"])
        scheme = case.get("style", "original-buffer")
        windows = Windows(model, loss, inputs, targets, Fixed(case["K"]), scheme=scheme)
        means = []
        for window in windows:
            if scheme == "original" and window.steps.loss_stop == len(inputs):
                break  # the golden pass stops one step short of the end
            optimizer.zero_grad()
            objective = window.loss() if case.get("normalized", True) else window.loss() * window.losses
            objective.backward()
            if case["clip_norm"] is not None:
                of_the_sum = "style" in case and case["normalized"]
                nn.utils.clip_grad_norm_(model.parameters(), case["clip_norm"] / (window.losses if of_the_sum else 1))
            optimizer.step()
            means.append(float(window.mean_loss))
        for name, parameter in model.named_parameters():
            expected = arrays[f"{prefix}after.{name}"]
            np.testing.assert_allclose(parameter.detach().numpy(), expected, rtol=1e-9, atol=1e-12)
        if scheme == "original-buffer":
            np.testing.assert_allclose(means, arrays[f"{prefix}window_loss"], rtol=1e-9)
    assert {case.get("style", "original-buffer") for case in cases} <= set(SCHEMES)


@pytest.mark.parametrize("scheme", SCHEMES)
@given(length=st.integers(1, 23), lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_every_step_is_counted_once_a_pass_whatever_K_does(scheme: str, length: int, lengths: list[int]) -> None:
    """The loss of a step is its number, so that means tell which steps they are of."""

    class Numbered(nn.Module):
        def forward(self, inputs: Tensor, _: State) -> tuple[Tensor, State]:
            return inputs, inputs.new_zeros(inputs.shape[1], 1)

    numbers = torch.arange(length, dtype=torch.float64)[:, None]
    windows = Windows(Numbered(), lambda outputs, _: outputs, numbers, numbers, Scripted(lengths), scheme=scheme)
    for passes in (1, 2):
        counted: list[int] = []
        for window in windows:
            window.loss()
            steps = range(window.steps.loss_start, window.steps.loss_stop)
            assert window.losses == len(steps)
            assert float(window.mean_loss) == pytest.approx(sum(steps) / len(steps))
            counted += steps
        first = min(lengths[0], length) - 1 if scheme == "original" and passes == 1 else counted[0]
        assert counted == list(range(first, length))
        assert scheme == "original" or first == 0
        assert (windows.step, windows.epoch, windows.adaptive_epoch) == (passes * length, passes, passes)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_each_window_begins_in_the_state_of_one_unbroken_pass(scheme: str) -> None:
    inputs, targets = drawn()
    model = network(layers=2)
    unbroken = [model.initial_state(3)]
    for t in range(len(inputs)):
        unbroken.append(model(inputs[t : t + 1], unbroken[-1])[1])
    begun: list[State] = []
    recur = model.recur
    model.recur = lambda features, state: (begun.append(state), recur(features, state))[1]  # type: ignore[method-assign]
    for _ in range(2):
        for window in Windows(model, cross_entropy, inputs, targets, Scripted([4, 2, 5]), scheme=scheme):
            begun.clear()
            window.loss()
            for ours, theirs in zip(tensors(begun[0]), tensors(unbroken[window.steps.start]), strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
                assert not ours.requires_grad


def test_every_pass_begins_in_the_first_state_that_was_given() -> None:
    inputs, targets = drawn(6)
    model = network()
    first = tuple(torch.full((1, 3, 4), value, dtype=torch.float64, requires_grad=True) for value in (0.5, 2.0))
    windows = Windows(model, cross_entropy, inputs, targets, Full(), state=first)
    expected = cross_entropy(model(inputs, first)[0], targets).mean()
    for epoch in (1, 2):
        for window in windows:
            torch.testing.assert_close(window.loss(), expected)
            window.loss().backward()
        assert windows.epoch == epoch
    assert first[0].grad is None  # what made the first state is the user's


def test_a_for_loop_goes_on_where_a_break_left_it() -> None:
    whole, broken = network(), network()
    expected = train(Windows(whole, cross_entropy, *drawn(), Scripted([4, 2])))
    windows = Windows(broken, cross_entropy, *drawn(), Scripted([4, 2]))
    means = train(windows, until=5) + train(windows, until=11)
    assert windows.epoch == windows.step / 19 < 1
    assert means + train(windows) == expected
    assert windows.epoch == 1
    check_same_parameters(broken, whole)


def test_a_window_whose_loss_was_not_called_is_refused() -> None:
    windows = Windows(network(), cross_entropy, *drawn(), Fixed(4))
    passing = iter(windows)
    window = next(passing)
    with pytest.raises(RuntimeError, match=r"window\.loss\(\) must be called first"):
        _ = window.mean_loss
    with pytest.raises(RuntimeError, match=r"window\.loss\(\) must be called in each window"):
        next(passing)
    assert windows.step == 0


def test_a_loss_called_again_has_the_same_value_and_goes_no_further() -> None:
    windows = Windows(network(), cross_entropy, *drawn(), Fixed(4))
    first, second = iter(windows), []
    for window in first:
        once = window.loss()
        reached = windows.step
        assert torch.equal(window.loss(), once)
        assert windows.step == reached
        second.append(window)
    # A window that was kept is computed from its own first state, and moves nothing.
    again = second[1].loss()
    assert torch.equal(again.detach(), second[1].mean_loss)
    assert windows.step == 19


def adaptive(**changed: Any) -> Adaptive:
    return Adaptive(**({"delta": 0.5, "K_init": 4, "K_min": 2, "K_max": 9, "update_every": 0.4} | changed))


PROBES = ProbeSettings(window=8, tau=5, burn_in=2, positions=2)


@pytest.mark.parametrize("until", [3, 19, 30])
@pytest.mark.parametrize("scheme", ["original-buffer", "original", "buffer"])
def test_a_loop_continued_from_state_dicts_is_the_loop_that_was_not_stopped(scheme: str, until: int) -> None:
    def made() -> tuple[nn.Module, torch.optim.Optimizer, Windows]:
        model = network()
        optimizer = torch.optim.Adam(model.parameters(), 0.02)
        windows = Windows(model, cross_entropy, *drawn(), adaptive(), scheme=scheme, probes=PROBES)
        return model, optimizer, windows

    def go_on(optimizer: torch.optim.Optimizer, windows: Windows, steps: int) -> list[int]:
        lengths = []
        while windows.step < steps:
            for window in windows:
                optimizer.zero_grad()
                window.loss().backward()
                optimizer.step()
                lengths.append(window.K)
                if windows.step >= steps:
                    break
        return lengths

    whole, *rest = made()
    expected = go_on(*rest, steps=3 * 19)
    first = made()
    lengths = go_on(*first[1:], steps=until)
    file = io.BytesIO()
    torch.save([each.state_dict() for each in first], file)
    file.seek(0)
    second = made()
    for each, saved in zip(second, torch.load(file), strict=True):
        each.load_state_dict(saved)
    lengths += go_on(*second[1:], steps=3 * 19)
    assert lengths == expected
    assert len(set(lengths)) > 1
    assert second[2].adaptive_epoch == rest[1].adaptive_epoch > 3
    check_same_parameters(second[0], whole)


@pytest.mark.parametrize("scheme", ["tf", "double-tf", "original-buffer"])
def test_variable_scales_the_learning_rate_with_what_a_window_counts(scheme: str) -> None:
    windows = Windows(network(), cross_entropy, *drawn(40), Variable(base=8, sd=3, K_min=2), scheme=scheme)
    full = 15 if scheme == "double-tf" else 8
    shares = []
    for window in windows:
        window.loss()
        assert window.lr_scale == window.losses / full
        shares.append(window.lr_scale)
    assert sum(shares) == pytest.approx(40 / full)  # each step of the stream counts the same
    assert len(set(shares)) > 1


def test_randomized_reweights_what_gets_past_its_cuts() -> None:
    """Against autograd on the window, whose gradient through each step's state is multiplied by hand."""
    inputs, targets = drawn(40)
    model = nn.RNN(3, 3).double()
    embedded = nn.functional.one_hot(inputs % 3, 3).double()
    policy = Randomized(length=6, hazard="constant")
    windows = Windows(
        model, lambda outputs, targets: (outputs.sum(-1) - targets) ** 2, embedded, targets, policy, scheme="tf"
    )
    state = torch.zeros(1, 3, 3, dtype=torch.float64)
    seen = 0
    for window in windows:
        objective, cut = window.loss(), slice(window.steps.start, window.steps.stop)
        assert window.lr_scale == window.losses / 6
        ours = torch.autograd.grad(objective, list(model.parameters()))
        total = torch.zeros((), dtype=torch.float64)
        for step_inputs, step_targets in zip(embedded[cut].split(1), targets[cut].split(1), strict=True):
            outputs, state = model(step_inputs, state)
            total = total + ((outputs.sum(-1) - step_targets) ** 2).mean()
            state = 1.2 * state - 0.2 * state.detach()  # 1 / (1 - 1/6), backwards only
        theirs = torch.autograd.grad(total / window.losses, list(model.parameters()))
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
        state, seen = state.detach(), seen + (window.losses > 1)
    assert seen > 3


@pytest.mark.parametrize("policy", [Fixed(4), Full(), Warmup(2, 6, epochs=1), adaptive()])
def test_the_learning_rate_is_left_alone_by_policies_that_do_not_draw(policy: Policy) -> None:
    for window in Windows(network(), cross_entropy, *drawn(), policy, probes=PROBES):
        window.loss()
        assert window.lr_scale == 1


@pytest.mark.parametrize("estimator", ["bound", "measured"])
def test_the_adaptive_policys_probes_set_K_and_are_counted(estimator: str) -> None:
    """Updates fall due after 20, 40, ... steps of a stream of 20; each probes 2 x 10 steps."""
    model = network()
    policy = adaptive(update_every=1, estimator=estimator, delta=0.02, K_max=7)
    settings = ProbeSettings(window=8, tau=5, burn_in=2, positions=2, probes=2)
    windows = Windows(model, cross_entropy, *drawn(20), policy, probes=settings)
    train(windows)
    assert (policy.K, windows.epoch, windows.adaptive_epoch) == (4, 1, 1)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    model.eval()
    window = next(iter(windows))
    assert (window.K, windows.epoch, windows.adaptive_epoch) == (policy.K, 1, 2)
    assert policy.K > 4  # so small a bias needs more
    assert not model.training
    for parameter, as_it_was in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter, as_it_was)


def test_probes_of_the_policy_depend_on_the_seed() -> None:
    def lengths(seed: int) -> list[int]:
        policy = adaptive(update_every=0.1, delta=0.3)
        windows = Windows(network(), cross_entropy, *drawn(80), policy, probes=PROBES, seed=seed)
        return [window.K for window in windows if window.loss() is not None]

    assert lengths(0) == lengths(0) != lengths(3)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_loop_of_your_own_ends_where_a_run_of_the_config_does(scheme: str, settings: Any) -> None:
    made = settings("truncation=adaptive", "truncation.update_every=0.4", f"scheme={scheme}", "lr_scaling=linear")
    expected = torch.load(run(made).path / CHECKPOINT)["model"]
    task, model, policy, optimizer = build(made)
    stream = task.train
    windows = Windows(
        model, task.loss, stream.inputs, stream.targets, policy, scheme=scheme, probes=made.probe, seed=made.seed
    )
    for _ in range(2):
        for window in windows:
            for group in optimizer.param_groups:
                group["lr"] = window_lr(made.lr, made.lr_scaling, policy, scheme, window.steps)
            step(model, optimizer, window.loss(), made.clip_norm / window.losses)
    for name, parameter in model.state_dict().items():
        assert torch.equal(parameter, expected[name]), name


@pytest.mark.parametrize(
    ("inputs", "targets", "shapes"),
    [
        (torch.zeros(6, 2), torch.zeros(5, 2), "((6, 2), (5, 2))"),
        (torch.zeros(6, 2), torch.zeros(6, 3), "((6, 2), (6, 3))"),
        (torch.zeros(6, 2, 4), torch.zeros(6), "((6, 2), (6,))"),
        (torch.zeros(0, 2), torch.zeros(0, 2), "((0, 2), (0, 2))"),
    ],
)
def test_streams_that_do_not_fit_together_are_refused(inputs: Tensor, targets: Tensor, shapes: str) -> None:
    with pytest.raises(ConfigError) as error:
        Windows(network(), cross_entropy, inputs, targets, Fixed(4))
    rule = "must begin with the same (T, B), time before streams, none of them 0"
    assert str(error.value) == f"inputs and targets (={shapes}) {rule}"


@pytest.mark.parametrize(
    ("policy", "scheme", "message"),
    [
        (Fixed(4), "orginal", r"scheme \(=orginal\) must be one of .*; did you mean original\?"),
        (Randomized(5), "original-buffer", r"scheme \(=original-buffer\) must be tf with the randomized policy"),
        (Full(), "original", r"scheme \(=original\) must be another with the full policy"),
        (Full(window=9), "buffer", r"scheme \(=buffer\) must be tf with the full policy's window \(=9\)"),
        (Variable(5), "original", r"scheme \(=original\) must be another with the variable policy"),
    ],
)
def test_a_scheme_that_makes_no_sense_with_the_policy_is_refused(policy: Policy, scheme: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Windows(network(), cross_entropy, *drawn(), policy, scheme=scheme)


def test_a_stream_shorter_than_a_probe_is_refused_at_once() -> None:
    message = r"probes \(=10\) must not exceed the stream's 9 steps: a probe reads burn_in \+ window"
    with pytest.raises(ConfigError, match=message):
        Windows(network(), cross_entropy, *drawn(9), adaptive(), probes=PROBES)
    assert Windows(network(), cross_entropy, *drawn(9), Fixed(4), probes=PROBES).step == 0  # nobody probes


def test_a_policy_of_the_users_that_probes_is_refused_at_once_where_it_cannot() -> None:
    class Probing(Scripted):
        def update(self, progress: Progress, probe: Probe) -> None:
            super().update(progress, probe)
            probe()

    with pytest.raises(ConfigError, match=r"probes \(=10\) must not exceed the stream's 9 steps"):
        Windows(network(), cross_entropy, *drawn(9), Probing([4]), probes=PROBES)


def test_measured_needs_a_model_with_recurrent_parameters() -> None:
    class Echo(nn.Module):
        def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
            return inputs if state is None else inputs + 0 * state.mean(), inputs[-1, :, None]

    stream = torch.zeros(19, 3)
    policy = adaptive(update_every=0.1, estimator="measured")
    with pytest.raises(
        ConfigError, match=r"estimator \(=measured\) needs recurrent parameters, .* Echo depends on none"
    ):
        Windows(Echo(), lambda outputs, targets: outputs - targets, stream, stream, policy, probes=PROBES)


def test_a_policy_that_leaves_no_length_is_refused() -> None:
    windows = Windows(network(), cross_entropy, *drawn(), Scripted([4, 0]))
    next(iter(windows)).loss()
    with pytest.raises(ConfigError, match=r"K \(=0\) must be at least 1"):
        next(iter(windows))


def test_a_K_beyond_the_stream_is_the_streams_length() -> None:
    window = next(iter(Windows(network(), cross_entropy, *drawn(), Full())))
    assert (window.K, window.losses, window.steps.start, window.steps.stop) == (19, 19, 0, 19)


def test_a_model_that_takes_no_None_runs_from_the_state_that_is_given() -> None:
    class Pair(nn.LSTM):
        def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
            hidden, cell = state
            return super().forward(inputs, (hidden, cell))

    inputs = torch.randn(9, 2, 3, generator=torch.Generator().manual_seed(0))
    state = torch.zeros(1, 2, 4), torch.zeros(1, 2, 4)
    windows = Windows(Pair(3, 4), lambda outputs, _: outputs.sum(-1), inputs, inputs, Fixed(4), state=state)
    assert len([window.loss() for window in windows]) == 3


@pytest.mark.parametrize("loss", [nn.functional.mse_loss, nn.MSELoss(reduction="none")])
def test_a_loss_that_is_not_one_a_step_and_stream_is_refused_in_the_first_window(loss: Any) -> None:
    inputs = torch.randn(9, 2, 3, generator=torch.Generator().manual_seed(0))
    targets = torch.zeros(9, 2, 4)
    window = next(iter(Windows(nn.GRU(3, 4), loss, inputs, targets, Fixed(4))))
    with pytest.raises(ConfigError, match=r"^loss \(=.*\) must have the shape \(T, B\)"):
        window.loss()


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (10, r"K \(=null\) must be an integer from 1 on in an object of int"),
        (type("Still", (), {"K": 1})(), r"policy \(=Still\) must have a method update"),
        (atbptt.Fixed, r"K \(=null\) must be an integer from 1 on in an object of type"),
    ],
)
def test_what_is_no_policy_is_refused(policy: Any, message: str) -> None:
    with pytest.raises(atbptt.ConfigError, match=message):
        atbptt.Windows(nn.LSTM(D, 2).double(), squared_error, *data(), policy)

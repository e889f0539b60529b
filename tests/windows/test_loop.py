import copy
import io
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from atbptt.errors import ConfigError, DataWarning
from atbptt.models.losses import cross_entropy
from atbptt.models.states import State, tensors
from atbptt.probes.settings import ProbeSettings
from atbptt.runs.schema import CHECKPOINT
from atbptt.training.experiment import build, run
from atbptt.truncation import Adaptive, Fixed, Full, ProgressPerCost, Randomized
from atbptt.truncation.policy import Probe, Progress
from atbptt.windows.loop import Windows
from atbptt.windows.schemes import SCHEMES, window_lr
from atbptt.windows.update import step
from tests.helpers.modules import data, made as made_model
from tests.helpers.probing import OfCells, network, symbols
from tests.windows.test_cursor import Listed

PROBES = ProbeSettings(window=8, tau=5, burn_in=2, positions=2)


def adaptive(**changed: Any) -> Adaptive:
    return Adaptive(**({"delta": 0.5, "K_init": 4, "K_min": 2, "K_max": 9, "update_every": 0.4} | changed))


class Probing(Listed):
    def update(self, progress: Progress, probe: Probe) -> None:
        super().update(progress, probe)
        probe()


class Reading(Full):
    """Notes the bound on the bias of one step, as each pass begins."""

    probes = True

    def __init__(self) -> None:
        super().__init__()
        self.bounds: list[float] = []

    def update(self, _: Progress, probe: Probe) -> None:
        self.bounds.append(probe()[0].bound.at(1))


def train(windows: Windows, optimizer: torch.optim.Optimizer, until: int) -> list[tuple[int, float]]:
    """The user's loop until a step: K and the mean loss of each window."""
    found = []
    while windows.step < until:
        for window in windows:
            optimizer.zero_grad()
            window.loss().backward()
            optimizer.step()
            found.append((window.K, float(window.mean_loss)))
            if windows.step >= until:
                break
    return found


@pytest.mark.parametrize("file", ["tbptt_updates", "overlapping_updates"])
def test_one_pass_makes_the_golden_updates(file: str, golden: Any, golden_network: Any, loss: Any) -> None:
    cases, arrays = golden(file)
    for case in cases:
        prefix = f"case{case['case']}_"
        inputs, targets = torch.tensor(arrays[f"{prefix}x"]), torch.tensor(arrays[f"{prefix}y"])
        model = golden_network(case, arrays, "before")
        optimizer = torch.optim.SGD(model.parameters(), lr=case["lr"], weight_decay=case["weight_decay"])
        scheme = case.get("style", "original-buffer")
        means, losses, clip = [], [], case["clip_norm"]
        for window in Windows(model, loss, inputs, targets, Fixed(case["K"]), scheme=scheme):
            if scheme == "original" and window.steps.loss_stop == len(inputs):
                break  # the golden pass stops one step short of the end
            objective = window.loss() if case.get("normalized", True) else window.loss() * window.losses
            of_the_sum = clip is not None and "style" in case and case["normalized"]
            step(model, optimizer, objective, clip / window.losses if of_the_sum else clip)
            means.append(float(window.mean_loss))
            losses.append(window.losses)
        for name, parameter in model.named_parameters():
            expected = arrays[f"{prefix}after.{name}"]
            np.testing.assert_allclose(parameter.detach().numpy(), expected, rtol=1e-9, atol=1e-12)
        if scheme == "original-buffer":
            np.testing.assert_allclose(means, arrays[f"{prefix}window_loss"], rtol=1e-9)
        else:
            np.testing.assert_allclose(np.dot(means, losses), case["summed_train_loss"], rtol=1e-9)
    assert {case.get("style", "original-buffer") for case in cases} <= set(SCHEMES)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_each_window_begins_in_the_state_of_one_unbroken_pass(scheme: str) -> None:
    inputs, targets = symbols(19)
    model = network(layers=2)
    unbroken = [model.initial_state(3)]
    for t in range(len(inputs)):
        unbroken.append(model(inputs[t : t + 1], unbroken[-1])[1])
    begun: list[State] = []
    recur = model.recur
    model.recur = lambda features, state: (begun.append(state), recur(features, state))[1]  # type: ignore[method-assign]
    windows = Windows(model, cross_entropy, inputs, targets, Listed([4, 2, 5]), scheme=scheme)
    for passes in (1, 2):
        for window in windows:
            begun.clear()
            window.loss()
            for ours, theirs in zip(tensors(begun[0]), tensors(unbroken[window.steps.start]), strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
                assert not ours.requires_grad
        assert (windows.step, windows.epoch, windows.adaptive_epoch) == (passes * 19, passes, passes)


def test_every_pass_begins_in_the_first_state_that_was_given() -> None:
    inputs, targets = symbols(6)
    model = network()
    first = tuple(torch.full((1, 3, 4), value, dtype=torch.float64, requires_grad=True) for value in (0.5, 2.0))
    expected = cross_entropy(model(inputs, first)[0], targets).mean()
    windows = Windows(model, cross_entropy, inputs, targets, Full(), state=first)
    for window in (window for _ in range(2) for window in windows):
        torch.testing.assert_close(window.loss(), expected)
        window.loss().backward()
    assert first[0].grad is None  # what made the first state is the user's


def test_a_policy_that_has_changed_in_other_windows_is_refused() -> None:
    """Its probes and schedule would begin anew with each; one that does not change, or is changed, goes on."""
    model, streams = network(), symbols(19)
    policy, constant = adaptive(), Fixed(4)
    for K in (4, 5):
        Windows(model, cross_entropy, *streams, policy, probes=PROBES)
        constant.K = K
        next(iter(Windows(model, cross_entropy, *streams, constant))).loss()
    next(iter(Windows(model, cross_entropy, *streams, policy, probes=PROBES)))
    with pytest.raises(ConfigError, match=r"^policy \(=Adaptive\) has changed in other Windows, .* feed them the next"):
        Windows(model, cross_entropy, *streams, policy, probes=PROBES)


def test_a_policy_is_refused_where_it_comes_second() -> None:
    model, streams, policy = network(), symbols(19), adaptive()
    one, other = (Windows(model, cross_entropy, *streams, policy, probes=PROBES) for _ in range(2))
    next(iter(one)).loss()
    with pytest.raises(ConfigError, match=r"^policy \(=Adaptive\) has changed in other Windows"):
        next(iter(other))
    next(iter(one)).loss()
    constant = Fixed(4)
    constant.table = [{"a": torch.arange(3)}, np.float64("nan")]  # type: ignore[attr-defined]
    for _ in range(2):  # it has tensors, but they do not change
        next(iter(Windows(model, cross_entropy, *streams, constant))).loss()


def test_windows_and_probes_read_the_streams_that_are_fed() -> None:
    (inputs, targets), (others, other_targets) = symbols(19), [part.flip(0) for part in symbols(19)]
    model, read = network(), Reading()
    windows = Windows(model, cross_entropy, inputs, targets, read, probes=PROBES)
    pairs = ((inputs, targets), (others, other_targets))
    expected = [cross_entropy(model(each, model.initial_state(3))[0], of).mean() for each, of in pairs]
    losses = []
    for _ in range(2):
        losses += [window.loss() for window in windows]
        windows.feed(others, other_targets)
    torch.testing.assert_close(losses, expected)
    of_others = Reading()
    fed = Windows(model, cross_entropy, others, other_targets, of_others, probes=PROBES)
    fed.cursor.epochs_done, fed.cursor.steps_before = 1, 19
    next(iter(fed))
    assert read.bounds == [read.bounds[0], *of_others.bounds]


def test_a_window_whose_loss_was_not_called_is_refused() -> None:
    windows = Windows(network(), cross_entropy, *symbols(19), Fixed(4))
    passing = iter(windows)
    window = next(passing)
    with pytest.raises(RuntimeError, match=r"window\.loss\(\) must be called first"):
        _ = window.mean_loss
    with pytest.raises(RuntimeError, match=r"window\.loss\(\) must be called in each window"):
        next(passing)
    assert windows.step == 0
    assert next(iter(windows)) is window


def test_a_loss_called_again_has_the_same_value_and_goes_no_further() -> None:
    windows = Windows(network(), cross_entropy, *symbols(19), Fixed(4))
    kept = []
    for window in windows:
        once = window.loss()
        reached = windows.step
        assert torch.equal(window.loss(), once)
        assert windows.step == reached
        kept.append(window)
    # A window that was kept is computed from its own first state, and moves nothing.
    assert torch.equal(kept[1].loss().detach(), kept[1].mean_loss)
    assert windows.step == 19


@pytest.mark.parametrize(("scheme", "until"), [("original-buffer", 3), ("original", 19), ("buffer", 30)])
def test_a_loop_continued_is_the_loop_that_was_not_stopped(scheme: str, until: int) -> None:
    def made() -> tuple[nn.Module, torch.optim.Optimizer, Windows]:
        model = network()
        windows = Windows(model, cross_entropy, *symbols(19), adaptive(), scheme=scheme, probes=PROBES)
        return model, torch.optim.Adam(model.parameters(), 0.02), windows

    model, optimizer, windows = made()
    expected = train(windows, optimizer, 3 * 19)
    first, second = made(), made()
    found = train(first[2], first[1], until)
    file = io.BytesIO()
    torch.save([each.state_dict() for each in first], file)
    file.seek(0)
    for each, saved in zip(second, torch.load(file), strict=True):
        each.load_state_dict(saved)
    for other_model, other_optimizer, other_windows in (first, second):
        assert found + train(other_windows, other_optimizer, 3 * 19) == expected
        assert other_windows.adaptive_epoch == windows.adaptive_epoch > 3
        torch.testing.assert_close(other_model.state_dict(), model.state_dict(), rtol=0, atol=0)
    assert len({K for K, _ in expected}) > 1


def test_a_state_dict_of_another_scheme_is_refused() -> None:
    saved = Windows(network(), cross_entropy, *symbols(19), Fixed(4)).state_dict()
    rule = r"state_dict .* must be of the same policy, scheme, phase and streams: .*'Fixed'.*tf"
    with pytest.raises(ConfigError, match=rule):
        Windows(network(), cross_entropy, *symbols(19), Fixed(4), scheme="tf").load_state_dict(saved)


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"epochs_done": None}, r"^epochs_done \(=null\) must be a whole number, at least 0$"),
        ({"epochs_done": 1e3}, r"^epochs_done \(=1000.0\) must be a whole number"),
        ({"epochs_done": 10**400}, r"^epochs_done \(=1000.* must fit in 64 bits$"),
        ({"steps_before": 2**63}, r"^steps_before .* must fit in 64 bits$"),
        ({"start": -1}, r"^start \(=-1\) must be at least 0$"),
        ({"position": 19}, r"^position \(=19\) must be less than 19$"),
        ({"probe_steps": 2**63}, r"^probe_steps .* must fit in 64 bits$"),
        ({"policy": {"K": "x"}}, r"^K \(=x\) must be a whole number, at least 1$"),
        ({"policy": {"K": 10**400}}, r"^K \(=1000.* must fit in 64 bits$"),
    ],
)
def test_a_state_dict_with_numbers_that_none_has_is_refused(changed: dict[str, Any], rule: str) -> None:
    windows = Windows(network(), cross_entropy, *symbols(19), Fixed(4))
    with pytest.raises(ConfigError, match=rule):
        windows.load_state_dict(windows.state_dict() | changed)


def test_randomized_reweights_what_gets_past_its_cuts() -> None:
    """Against autograd on the window, whose gradient through each step's state is multiplied by hand."""
    inputs, targets = symbols(40)
    model = nn.RNN(3, 3).double()
    embedded = nn.functional.one_hot(inputs % 3, 3).double()
    policy = Randomized(length=6, hazard="constant")
    loss = lambda outputs, targets: (outputs.sum(-1) - targets) ** 2  # noqa: E731
    windows = Windows(model, loss, embedded, targets, policy, scheme="tf")
    state = torch.zeros(1, 3, 3, dtype=torch.float64)
    seen = 0
    for window in windows:
        objective, cut = window.loss(), slice(window.steps.start, window.steps.stop)
        assert window.lr_scale == window.losses / 6
        ours = torch.autograd.grad(objective, list(model.parameters()))
        total = torch.zeros((), dtype=torch.float64)
        for step_inputs, step_targets in zip(embedded[cut].split(1), targets[cut].split(1), strict=True):
            outputs, state = model(step_inputs, state)
            total = total + loss(outputs, step_targets).mean()
            state = 1.2 * state - 0.2 * state.detach()  # 1 / (1 - 1/6), backwards only
        theirs = torch.autograd.grad(total / window.losses, list(model.parameters()))
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
        state, seen = state.detach(), seen + (window.losses > 1)
    assert seen > 3


@pytest.mark.parametrize("estimator", ["bound", "measured"])
def test_the_adaptive_policys_probes_set_K_and_are_counted(estimator: str) -> None:
    """Updates fall due after 20, 40, ... steps of a stream of 20; each probes 2 x 10 steps."""
    model = network()
    policy = adaptive(update_every=1, estimator=estimator, delta=0.02, K_max=7)
    settings = ProbeSettings(window=8, tau=5, burn_in=2, positions=2, probes=2)
    windows = Windows(model, cross_entropy, *symbols(20), policy, probes=settings)
    train(windows, torch.optim.SGD(model.parameters(), 0.5), 20)
    assert (policy.K, windows.epoch, windows.adaptive_epoch) == (4, 1, 1)
    before = copy.deepcopy(model.state_dict())
    model.eval()
    window = next(iter(windows))
    assert (window.K, windows.epoch, windows.adaptive_epoch) == (policy.K, 1, 2)
    assert policy.K > 4  # so small a bias needs more
    assert not model.training
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


def test_a_probe_that_is_not_usable_warns_and_leaves_K() -> None:
    model, policy = network(), adaptive(K_init=7)
    windows = Windows(model, cross_entropy, *symbols(19), policy, scheme="tf", probes=PROBES)
    windows.cursor.position = 8
    next(model.parameters()).data.fill_(torch.nan)
    message = r"^epoch 0.421: probe 0 for policy is not usable: its loss must be finite, and is nan in stream 0$"
    with pytest.warns(DataWarning, match=message):
        next(iter(windows))
    assert policy.K == 7


@pytest.mark.parametrize(("scheme", "phase"), [("original-buffer", "random"), ("buffer", "fixed")])
def test_a_loop_of_your_own_ends_where_a_run_of_the_config_does(scheme: str, phase: str, settings: Any) -> None:
    schedule = ("truncation.update_every=0.4", "lr_scaling=linear", "seed=3")
    made = settings("truncation=adaptive", f"scheme={scheme}", f"phase={phase}", *schedule)
    expected = torch.load(run(made).path / CHECKPOINT)["model"]
    task, model, policy, optimizer, _ = build(made)
    stream = task.train
    how = {"scheme": scheme, "phase": phase, "probes": made.probe, "seed": made.seed}
    windows = Windows(model, task.loss, stream.inputs, stream.targets, policy, **how)
    for window in (window for _ in range(2) for window in windows):
        for group in optimizer.param_groups:
            group["lr"] = window_lr(made.lr, made.lr_scaling, policy, scheme, window.losses)
        step(model, optimizer, window.loss(), made.clip_norm / window.losses)
    torch.testing.assert_close(model.state_dict(), expected, rtol=0, atol=0)


class Echo(nn.Module):
    """Has no parameters."""

    def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        return inputs if state is None else inputs + 0 * state.mean(), inputs[-1, :, None]


def start(policy: Any, length: int = 19, model: Any = None, **options: Any) -> Windows:
    model = network() if model is None else model
    return Windows(model, cross_entropy, *symbols(length), policy, **({"probes": PROBES} | options))


def by_cells(**options: Any) -> Windows:
    return Windows(*made_model("LSTMCell"), *data(), adaptive(**options), probes=PROBES, scheme="tf")


def of_echo() -> Windows:
    streams = [torch.zeros(19, 3)] * 2
    return Windows(Echo(), lambda outputs, _: outputs, *streams, adaptive(estimator="measured"), probes=PROBES)


REFUSED = {
    "streams of other shapes": (
        lambda: Windows(network(), cross_entropy, torch.zeros(6, 2), torch.zeros(5, 2), Fixed(4)),
        r"inputs and targets \(=\(\(6, 2\), \(5, 2\)\)\) must begin with the same \(T, B\), time before streams, none",
    ),
    "a model": (
        lambda: start(Fixed(4), model=nn.Linear(2, 2)),
        r"model \(=Linear\) must run as model\(inputs, state\)",
    ),
    "no scheme": (
        lambda: start(Fixed(4), scheme="orginal"),
        r"scheme \(=orginal\) must be one of .*; did you mean original\?",
    ),
    "a scheme that is not the policy's": (
        lambda: start(Full(window=9), scheme="buffer"),
        r"scheme \(=buffer\) must be tf with the full policy's window \(=9\)",
    ),
    "no policy": (lambda: start(10), r"policy \(=int\) must be an object with an attribute K and a method update"),
    "no update": (lambda: start(type("Still", (), {"K": 1})()), r"policy \(=Still\) must have a method update"),
    "a phase of the whole": (lambda: start(Full(), phase="random"), r"phase \(=random\) must be fixed with the full"),
    "a class": (lambda: start(Fixed), r"policy \(=the class Fixed\) must be an object with an attribute K and"),
    "other probes": (lambda: start(Fixed(4), probes=5), r"probes \(=int\) must be ProbeSettings$"),
    "a broken seed": (lambda: start(Fixed(4), seed=1.5), r"seed \(=1.5\) must be a whole number, at least 0$"),
    "a state of nothing": (lambda: start(Fixed(4), state=5), r"state \(=int\) must be a tensor, or a tuple, list or"),
    "no steps at once": (lambda: next(iter(start(Fixed(4)))).loss(0), r"steps_at_once \(=0\) must be at least 1$"),
    "no saved state": (lambda: start(Fixed(4)).load_state_dict(None), r"state_dict \(=NoneType\) must be what state_d"),
    "a stream shorter than a probe": (
        lambda: start(adaptive(), length=9),
        r"burn_in \+ window \(=10\) must not exceed the stream's 9 steps: a probe reads that many$",
    ),
    "the same for a user's policy": (
        lambda: start(Probing([4]), length=9),
        r"burn_in \+ window \(=10\) must not exceed",
    ),
    "measured without parameters": (
        of_echo,
        r"estimator \(=measured\) needs recurrent parameters, .* Echo depends on none",
    ),
    "noise of cells": (
        lambda: Windows(OfCells(), cross_entropy, *symbols(19), ProgressPerCost(), probes=PROBES),
        r"policy \(=ProgressPerCost\) needs the noise of the gradient: a model whose whole state is that of one torch",
    ),
    "noise of one stream": (
        lambda: Windows(network(), cross_entropy, *symbols(19, batch=1), ProgressPerCost(), probes=PROBES),
        r"policy \(=ProgressPerCost\) needs the noise of the gradient: .* and more than one stream$",
    ),
    "confidence without resamples": (
        lambda: start(adaptive(confidence=0.9), probes=ProbeSettings(8, 5, 2, 2, resamples=0)),
        r"resamples \(=0\) must be at least 1 for the policy's confidence \(=0.9\)",
    ),
    "confidence of a measured bias of cells": (
        lambda: by_cells(confidence=0.9, estimator="measured"),
        r"confidence \(=0.9\) must be null with estimator=measured, unless the model's whole state is",
    ),
}


@pytest.mark.parametrize(("made", "message"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused_at_once(made: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        made()


def test_probes_are_not_checked_where_nobody_needs_them() -> None:
    assert start(Fixed(4), length=9).step == 0
    assert by_cells(confidence=0.9).step == by_cells(estimator="measured").step == 0


def test_a_K_beyond_the_stream_is_the_streams_length_at_the_usual_learning_rate() -> None:
    window = next(iter(start(Full())))
    assert (window.K, window.losses, window.steps.start, window.steps.stop, window.lr_scale) == (19, 19, 0, 19, 1)


@pytest.mark.parametrize("loss", [nn.functional.mse_loss, nn.MSELoss(reduction="none")])
def test_a_loss_that_is_not_one_a_step_and_stream_is_refused(loss: Any) -> None:
    with pytest.raises(ConfigError, match=r"^loss \(=.*\) must have the shape \(T, B\)"):
        Windows(nn.GRU(3, 4), loss, torch.zeros(9, 2, 3), torch.zeros(9, 2, 4), Fixed(4))

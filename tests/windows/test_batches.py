"""Many sequences: batches of other lengths and widths, one policy, one clock."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from atbptt.errors import ConfigError
from atbptt.models.losses import cross_entropy
from atbptt.probes.settings import ProbeSettings
from atbptt.truncation import Adaptive, Fixed, Full, Policy, Randomized, Warmup
from atbptt.windows.loop import Windows
from atbptt.windows.streams import padded
from tests.helpers.probing import network, symbols

PROBES = ProbeSettings(window=8, tau=5, burn_in=2, positions=2)
LENGTHS = ((12, 4), (15, 3), (7, 5))  # (T, B) of batches


def batches() -> list[tuple[Tensor, Tensor, Tensor]]:
    """Padded sequences, of which the last steps do not count."""
    found = []
    for steps, batch in LENGTHS:
        inputs, targets = symbols(steps, batch)
        found.append((inputs, targets, torch.arange(steps)[:, None] <= steps - 2 + torch.arange(batch) % 2))
    return found


def test_every_batch_is_read_from_its_start_to_its_end() -> None:
    """With the loss of each by itself, and K from a schedule that goes on over all of them."""
    model, data = network(), batches()
    steps = sum(length for length, _ in LENGTHS)
    warmup = Warmup(K_init=2, K_final=5, epochs=1)
    windows = Windows(model, cross_entropy, *data[0][:2], warmup, scheme="tf", epoch_steps=steps)
    read: dict[int, list[Any]] = {}
    for window in windows.each(data):
        window.loss().backward()
        read.setdefault(windows.cursor.length, []).append((window.K, float(window.mean_loss) * window.losses))
    lengths = [K for found in read.values() for K, _ in found]
    assert lengths == sorted(lengths)
    assert (lengths[0], lengths[-1]) == (2, 4)
    for inputs, targets, counted in data:
        losses = cross_entropy(model(inputs, None)[0], targets)
        expected = float((losses * counted).detach().sum()) / inputs.shape[1]
        assert sum(loss for _, loss in read[len(inputs)]) == pytest.approx(expected)
    assert (windows.step, windows.epoch, windows.cursor.epochs_done) == (steps, 1, 3)


@pytest.mark.parametrize("whole", [Full, lambda: Randomized(length=1e9)])
@pytest.mark.parametrize("epoch_steps", [None, 5, 34, 1000])
def test_windows_that_may_be_whole_end_with_their_batch(whole: Callable[[], Policy], epoch_steps: int | None) -> None:
    """Not with an epoch: there, the randomized policy would leave out a gradient that it does not make up for."""
    data = batches()
    windows = Windows(network(), cross_entropy, *data[0][:2], whole(), scheme="tf", epoch_steps=epoch_steps)
    read = []
    for window in windows.each([*data, data[1], data[2], data[0]]):
        window.loss()
        read.append(window.steps.stop - window.steps.start)
    assert read == [12, 15, 7, 15, 7, 12]


def test_an_adaptive_policy_probes_by_the_clock_of_all_batches() -> None:
    model, (inputs, targets) = network(), symbols(12, 24)
    loader = DataLoader(TensorDataset(inputs.T, targets.T), batch_size=4, collate_fn=stacked)
    policy = Adaptive(delta=0.5, K_init=4, K_min=2, K_max=9, update_every=0.5)
    windows = Windows(
        model, cross_entropy, *next(iter(loader)), policy, probes=PROBES, epoch_steps=12 * len(loader), seed=1
    )
    for _ in range(2):
        for window in windows.each(loader):
            window.loss().backward()
    assert windows.probe_steps == 3 * PROBES.steps  # at epochs 0.5, 1 and 1.5
    assert windows.adaptive_epoch == 2 + 3 * PROBES.steps / 72


def stacked(pairs: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
    return [torch.stack(parts, dim=1) for parts in zip(*pairs, strict=True)]


def test_probes_may_be_drawn_from_other_streams_than_are_read() -> None:
    """So batches may be shorter than a probe; what is probed stays."""
    model, data = network(), batches()
    with pytest.raises(ConfigError, match=r"^burn_in \+ window \(=10\) must not exceed the stream's 7 steps"):
        Windows(model, cross_entropy, *data[2][:2], adaptive(), probes=PROBES)
    ours = Windows(model, cross_entropy, *data[2][:2], adaptive(), probes=PROBES, probe_streams=data[1], epoch_steps=7)
    theirs = Windows(model, cross_entropy, *data[1][:2], adaptive(), counted=data[1][2], probes=PROBES)
    found = [windows._probe(measured=True)[0].bound.values for windows in (ours, theirs)]
    assert (found[0] == found[1]).all()
    ours.feed(*data[0])
    assert (ours._probe(measured=True)[0].bound.values == found[0]).all()
    theirs.feed(*data[0])
    assert not (theirs._probe(measured=True)[0].bound.values == found[0][:12]).all()
    with pytest.raises(ConfigError, match=r"must not exceed the stream's 7 steps"):
        theirs.feed(*data[2])


def adaptive() -> Adaptive:
    return Adaptive(delta=0.5, K_init=4, K_min=2, K_max=9, update_every=0.5)


def test_the_clock_counts_by_the_first_streams_unless_told_otherwise() -> None:
    windows = Windows(network(), cross_entropy, *symbols(20), Warmup(K_init=2, K_final=20, epochs=5), scheme="tf")
    found = []
    for steps in (20, 10, 30):
        windows.feed(*symbols(steps))
        lengths = [window.loss() and window.K for window in windows]
        found.append((windows.epoch, lengths == sorted(lengths)))
    assert found == [(1.0, True), (1.5, True), (3.0, True)]
    later = Windows(network(), cross_entropy, *symbols(7), Warmup(K_init=2, K_final=20, epochs=5), scheme="tf")
    later.load_state_dict(windows.state_dict())
    assert later.epoch == 3.0


def test_a_pass_may_be_ended_before_the_streams_do() -> None:
    data = batches()
    model, windows = made(data)
    windows.end_pass()  # none has begun
    for position in (0, 4):
        for window in windows.each(data):
            if window.steps.loss_start >= position:
                break
            window.loss()
        with pytest.raises(RuntimeError, match=r"read to its end, or its pass be ended: .* or windows.end_pass\(\)$"):
            next(windows.each(data))
        windows.end_pass()
        window = next(iter(windows))
        torch.testing.assert_close(window.loss(), cross_entropy(model(data[0][0][:3], None)[0], data[0][1][:3]).mean())
        windows.end_pass()
    assert (windows.cursor.epochs_done, windows.step) == (4, 3 + 6 + 3)


def test_what_cannot_be_fed_changes_nothing() -> None:
    model, (inputs, targets) = network(), symbols(12)
    state, geometric = model.initial_state(3), replace(PROBES, average="geometric")
    windows = Windows(model, cross_entropy, inputs, targets, adaptive(), state=state, probes=geometric)
    resets = torch.zeros(20, 3, dtype=torch.bool)
    for message, given, more in (
        (r"^state \(=\(1, 3, 4\) .*, B = 5 ", symbols(12, 5), {}),
        (r"^average \(=geometric\) ", symbols(20), {"resets": resets}),
        (r"^state \(=\(1, 2, 4\) .*, B = 3 ", symbols(20), {"state": model.initial_state(2)}),
    ):
        with pytest.raises(ConfigError, match=message):
            windows.feed(*given, **more)
        assert windows.stream.inputs is inputs
    for probed, message in (
        (symbols(20, 5), r"^state \(=\(1, 3, 4\) .*, B = 5 "),
        ((inputs.double(), targets), r"^probe_streams: inputs \(=.*float64.* must be like those of training, but"),
    ):
        with pytest.raises(ConfigError, match=message):
            Windows(model, cross_entropy, inputs, targets, adaptive(), state=state, probes=PROBES, probe_streams=probed)


def test_a_loop_over_batches_continues_where_it_was() -> None:
    data, found = batches(), []
    for stops in ([(0, 0)], [(0, 0), (1, 3)], [(0, 0), (2, 0)]):  # at windows of batches; new objects continue
        model, windows = made(data)
        losses: list[float] = []
        for number, batch in enumerate(data):
            windows.feed(*batch)
            for index, window in enumerate(windows):
                if (number, index) in stops[1:]:
                    losses.append(trained(model, window))
                    saved = [each.state_dict() for each in (model, windows)]
                    model, windows = made(data)
                    windows.feed(*batch)
                    for each, state in zip((model, windows), saved, strict=True):
                        each.load_state_dict(state)
                    break
                losses.append(trained(model, window))
            for window in windows if windows.cursor.position else ():
                losses.append(trained(model, window))
        found.append((losses, windows.step, windows.epoch))
    assert found[0] == found[1] == found[2]


def made(data: Any) -> tuple[nn.Module, Windows]:
    model = network()
    return model, Windows(model, cross_entropy, *data[0][:2], Fixed(3), scheme="tf", epoch_steps=34)


def trained(model: nn.Module, window: Any) -> float:
    gradients = torch.autograd.grad(window.loss(), list(model.parameters()))
    with torch.no_grad():
        for parameter, gradient in zip(model.parameters(), gradients, strict=True):
            parameter -= 0.1 * gradient
    return float(window.mean_loss)


def test_batches_of_another_structure_are_refused() -> None:
    (inputs, targets), others = symbols(12), symbols(9)
    windows = Windows(network(), cross_entropy, inputs, targets, Fixed(3))
    for batch, found in ((inputs, "Tensor"), ((inputs,), "tuple of 1"), ([inputs] * 5, "list of 5")):
        with pytest.raises(ConfigError, match=rf"^batches \(={found}\) must be \(inputs, targets\)"):
            next(windows.each([batch]))
    with pytest.raises(ConfigError, match=r"^targets .* must be like those before, but for \(T, B\)"):
        windows.feed(inputs, targets.double())
    with pytest.raises(ConfigError, match=r"^epoch_steps \(=0\) must be at least 1"):
        Windows(network(), cross_entropy, inputs, targets, Fixed(3), epoch_steps=0)
    next(iter(windows)).loss()
    with pytest.raises(ConfigError, match=r"^inputs .* must be like those before: \(\(12, 3\), torch.int64\)"):
        windows.feed(*others)
    with pytest.raises(RuntimeError, match="the batch before must be read to its end"):
        next(windows.each([others]))


def test_streams_go_on_in_the_state_that_they_are_fed_with() -> None:
    """As the second half of an episode: the windows of two halves are those of the whole."""
    (inputs, targets), resets = symbols(12), torch.zeros(12, 3, dtype=torch.bool)
    resets[8, 1] = True  # here the state is the first one
    model, first, rest = network(), slice(6), slice(6, None)
    whole = Windows(model, cross_entropy, inputs, targets, Fixed(3), resets=resets, scheme="tf")
    expected = gradients(model, whole)
    halves = Windows(model, cross_entropy, inputs[first], targets[first], Fixed(3), scheme="tf")
    found = gradients(model, halves)
    _, state = model(inputs[first], None)
    halves.feed(inputs[rest], targets[rest], resets=resets[rest], state=state)
    for _ in range(2):  # the next pass over them begins there, too
        torch.testing.assert_close(found + gradients(model, halves), expected)
    halves.feed(inputs[first], targets[first])
    torch.testing.assert_close(gradients(model, halves), found)


def gradients(model: nn.Module, windows: Windows) -> list[tuple[Tensor, ...]]:
    return [torch.autograd.grad(window.loss(), list(model.parameters())) for window in windows]


def test_states_that_do_not_fit_are_refused() -> None:
    (inputs, targets), model = symbols(12), network()
    windows = Windows(model, cross_entropy, inputs, targets, Fixed(3))
    _, state = model(inputs, None)
    with pytest.raises(ConfigError, match=r"^state \(=int\) must be a tensor"):
        windows.feed(inputs, targets, state=3)
    with pytest.raises(ConfigError, match=r"^state \(=\(1, 2, 4\) .*\) must be of shape \(L, B, H\)"):
        windows.feed(inputs, targets, state=[part[:, :2] for part in state])
    with pytest.raises(ConfigError, match=r"^state \(=.*\) must be like the model's: \(\("):
        windows.feed(inputs, targets, state=state[0])
    next(iter(windows)).loss()
    with pytest.raises(ConfigError, match=r"^state \(=given\) must be fed between two passes"):
        windows.feed(inputs, targets, state=state)


def test_sequences_are_padded_from_lists_packed_and_nested() -> None:
    """And classified at their ends, with the gradients of each by itself."""
    sequences = [torch.arange(1.0, length + 1)[:, None] for length in (3, 5, 2)]
    expected = nn.utils.rnn.pad_sequence(sequences)
    packed = nn.utils.rnn.pack_sequence(sequences, enforce_sorted=False)
    for given in (sequences, packed, torch.nested.nested_tensor(sequences, layout=torch.jagged)):
        values, within = padded(given)
        assert torch.equal(values, expected)
        assert within.sum(dim=0).tolist() == [3, 5, 2]
        assert torch.equal(values[..., 0] > 0, within)
    with pytest.raises(ConfigError, match=r"^sequences \(=\[\]\) must hold a sequence"):
        padded([])
    with pytest.raises(ConfigError, match=r"^sequences \(=\[3, 0\]\) must have lengths of at least 1"):
        padded([sequences[0], sequences[0][:0]])
    for wrong, message in (
        (5, r"\(=int\) must be a list of tensors \(T, ...\), a nested tensor of them, or a PackedSequence$"),
        ([[1, 2]], r"\(=a list with \[\[1, 2\]\]\) must be a list of tensors"),
        (
            [sequences[0], torch.ones(3)],
            r"\(=\(1,\) torch.float32, \(\) torch.float32\) must have features of one shape",
        ),
    ):
        with pytest.raises(ConfigError, match=f"^sequences {message}"):
            padded(wrong)  # type: ignore[arg-type]
    for ragged in (packed, torch.nested.nested_tensor(sequences, layout=torch.jagged)):
        with pytest.raises(
            ConfigError, match=r"^inputs \(=.*\) must be a tensor with the time first: atbptt.padded makes"
        ):
            Windows(network(), cross_entropy, ragged, values, Full())
    model, (inputs, targets) = network(), symbols(5)
    last = within & ~within.roll(-1, 0).logical_and(torch.arange(5)[:, None] < 4)
    window = next(iter(Windows(model, cross_entropy, inputs, targets, Full(), counted=last)))
    alone = [
        cross_entropy(model(inputs[:length, [b]], None)[0][-1:], targets[length - 1 : length, [b]])
        for b, length in enumerate((3, 5, 2))
    ]
    for ours, theirs in zip(
        *(torch.autograd.grad(each, list(model.parameters())) for each in (window.loss(), torch.cat(alone).mean())),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)

"""A network that reads and returns several tensors and counts its steps, and the plain one that does the same."""

from typing import Any

import torch
from torch import Tensor, nn

from atbptt.datasets import Stream, SymbolTask
from atbptt.models.losses import cross_entropy
from tests.helpers.probing import network, symbols


class Plain(nn.Module):
    """Symbols to logits, in which every third step of a stream is louder; a count of floating point in the state."""

    def __init__(self, input_size: int = 5, output_size: int = 5) -> None:
        super().__init__()
        self.inner = network(hidden=max(input_size, output_size) - 1)

    def counted(self, count: Tensor, steps: int) -> Tensor:  # (B,) before, (T, B) after each step
        return count + torch.arange(1, steps + 1)[:, None]

    def forward(self, inputs: Tensor, state: Any) -> tuple[Any, Any]:
        outputs, after = self.inner(inputs, state[0])
        counts = self.counted(state[1].flatten(), len(inputs))
        louder = 1 + (counts.detach() % 3 == 0).double()
        return outputs * louder[:, :, None], (after, counts[-1].view_as(state[1]))

    def initial_state(self, batch: int) -> Any:
        return self.inner.initial_state(batch), torch.zeros(batch, 1, dtype=torch.float64)


class Parted(Plain):
    """The same of a dict with a list: two numbers whose sum is the symbol; logits and a value; a count of integers."""

    def forward(self, inputs: Any, state: Any) -> tuple[Any, Any]:
        one, other = inputs["parts"]
        logits, (after, count) = super().forward(one + other, (state["rnn"], state["count"]))
        flags = state["flag"] | (one[-1] > 2)
        return (logits, {"value": logits[..., 0]}), {"rnn": after, "count": count, "flag": flags}

    def initial_state(self, batch: int) -> Any:
        rnn, _ = super().initial_state(batch)
        return {"rnn": rnn, "count": torch.zeros(batch, dtype=torch.int64), "flag": torch.zeros(batch).bool()}


def plain_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Of targets (T, B, 2): a symbol, and what the first logit should be."""
    return cross_entropy(outputs, targets[..., 0].long()) + (outputs[..., 0] - targets[..., 1]).square()


def parted_loss(outputs: Any, targets: Any) -> Tensor:
    logits, more = outputs
    return cross_entropy(logits, targets[0]) + (more["value"] - targets[1]).square()


def plain_and_parted(steps: int) -> tuple[tuple[Tensor, Tensor], tuple[Any, Any]]:
    """Inputs and targets of B = 3 streams for either."""
    inputs, wanted = symbols(steps)
    values = torch.randn(steps, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    one = (inputs / 2).long()
    return (inputs, torch.stack([wanted.double(), values], dim=-1)), ({"parts": [one, inputs - one]}, [wanted, values])


class Cell(nn.Module):
    """An LSTM cell whose state is a dict, returned in the order in which it begins, or in another."""

    state_names = ("hidden", "cell")

    def __init__(self, swapped: bool) -> None:
        super().__init__()
        self.cell, self.decoder, self.swapped = nn.LSTMCell(5, 4), nn.Linear(4, 5), swapped

    def forward(self, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
        hidden = []
        for step in nn.functional.one_hot(inputs, 5).double():
            pair = self.cell(step, (state["hidden"], state["cell"]))
            state = dict(zip(("hidden", "cell"), pair, strict=True))
            hidden.append(pair[0])
        after = dict(reversed(state.items())) if self.swapped else state
        return self.decoder(torch.stack(hidden)), after

    def initial_state(self, batch: int) -> Any:
        return {name: torch.zeros(batch, 4, dtype=torch.float64) for name in ("hidden", "cell")}


def cells() -> list[Cell]:
    """Both kinds, with the same parameters."""
    torch.manual_seed(0)
    found = [Cell(swapped).double() for swapped in (False, True)]
    found[1].load_state_dict(found[0].state_dict())
    return found


class PlainData(SymbolTask):
    """A data set for `Plain`: predicts symbols, and the values beside them."""

    metric_names = ("loss",)
    input_size = output_size = 5

    def __init__(self) -> None:
        self.train, self.valid, self.test = (Stream(*self._parts(steps)) for steps in (60, 17, 19))

    def _parts(self, steps: int) -> tuple[Any, Any]:
        return plain_and_parted(steps)[0]

    def loss(self, outputs: Any, targets: Any) -> Tensor:
        return plain_loss(outputs, targets)

    def metrics(self, means: dict[str, float]) -> dict[str, float]:
        return means

    def predictions(self, outputs: Any, targets: Any) -> dict[str, tuple[Tensor, Tensor]]:
        return {"symbol": (outputs.argmax(dim=-1), targets[..., 0])}


class PartedData(PlainData):
    """The same for `Parted`."""

    def _parts(self, steps: int) -> tuple[Any, Any]:
        return plain_and_parted(steps)[1]

    def loss(self, outputs: Any, targets: Any) -> Tensor:
        return parted_loss(outputs, targets)

    def predictions(self, outputs: Any, targets: Any) -> dict[str, tuple[Tensor, Tensor]]:
        return {"symbol": (outputs[0].argmax(dim=-1), targets[0])}

"""Gradients of the recurrent parameters: their relative bias at every K, and their noise from loss to loss.

In a full window of a scheme, the losses are backpropagated through different numbers of steps, one loss through each
of `lengths_seen`. The expected gradient of an update is thus the mean m_K of the g_j of these lengths j, where g_j is
the gradient with every loss backpropagated through j steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from atbptt.models import share_counted
from atbptt.probes.lags import Segment, with_mean
from atbptt.probes.layers import Layer, Product
from atbptt.probes.settings import FEW_SKETCHES, SKETCH, lengths_seen

ALONE = 1e-9  # pairs of streams, below which all that counts is in one
SUMMED = 2**24  # numbers: of so many parameters, times W, the sums over lags are kept at once


@dataclass(frozen=True)
class ParameterGradients:
    """The recurrent parameters' gradient truncated at K = 1..W, against that of the whole window; row 0 is K = 1.

    Of the mean loss over positions and streams. A position fewer than W steps into the window is backpropagated to the
    window's start.

    Attributes:
        names: of the recurrent parameters.
        norm: ||g_W||.
        bias: of the scheme, ||m_K - g_W|| / ||g_W||, (W,); NaN if there is no gradient at all.
        cosine: of the angle between m_K and g_W, (W,); NaN if either is zero.
        bias_of_steps, cosine_of_steps: the same of g_K, every loss backpropagated through exactly K steps.
        resampled_bias: `bias` in each of R resamples of streams and positions, (R, W). None for models other than
            torch's recurrent layers, whose gradients are not known stream by stream.
        noise: None for these models, and if it was not measured.
    """

    names: tuple[str, ...]
    norm: float
    bias: np.ndarray
    cosine: np.ndarray
    bias_of_steps: np.ndarray
    cosine_of_steps: np.ndarray
    resampled_bias: np.ndarray | None
    noise: GradientNoise | None


@dataclass(frozen=True)
class GradientNoise:
    """The gradient of one loss of one stream under the scheme at K = 1..W, and how much it varies; row 0 is K = 1.

    Its mean over losses is m_K. An update is the mean over `losses` losses of each of `streams` streams; it is taken
    to have the variance of as many independent ones, as docs/definitions.md tells with what it is off by.

    Attributes:
        streams: B.
        losses: of each stream in an update, (W,); of those that count, as if they were spread evenly.
        steps: that an update reads, (W,).
        square: mean of the squared norm over streams and positions, (W,).
        spread: standard deviation of that over streams, each averaged over positions, (W,); NaN with one stream.
        signal: ||m_K||^2, from products of different streams, whose noise is independent: (W,). It may be negative by
            chance; NaN with one stream.
        along: the product g_W m_K, likewise.
    """

    streams: int
    losses: np.ndarray
    steps: np.ndarray
    square: np.ndarray
    spread: np.ndarray
    signal: np.ndarray
    along: np.ndarray

    @cached_property
    def of_update(self) -> np.ndarray:
        """The variance of an update's gradient, summed over parameters: (W,)."""
        return np.maximum(self.square - self.signal, 0) / (self.losses * self.streams)

    @cached_property
    def signal_to_noise(self) -> np.ndarray:
        """||m_K||^2 over the variance of an update's gradient, (W,); 0 where the signal is lost in the noise."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.maximum(self.signal, 0) / self.of_update


class LayerProduct(NamedTuple):
    """Parameters of a layer."""

    level: int
    product: Product


class TruncationSums:
    """Sums over parts of the parameters to ||m_K - g_W|| and ||g_K - g_W||, and products with g_W, for K = 1..W."""

    def __init__(self, window: int, scheme: str, device: torch.device) -> None:
        first, last = lengths_seen(scheme, np.arange(1, window + 1))
        self.window = window
        self.first, self.last = np.minimum(first, window), np.minimum(last, window)
        self.count, self.steps = last - first + 1, last
        self.longer = np.maximum(last, window) - np.maximum(first - 1, window)  # lengths beyond the window
        self.square = torch.zeros((), dtype=torch.float64, device=device)
        # ||g_W - g_K||^2, and the square of the sum of g_W - g_j over the lengths of K.
        self.errors = torch.zeros(2, window, dtype=torch.float64, device=device)
        self.products = torch.zeros(window + 1, dtype=torch.float64, device=device)

    def take(self, beyond: Tensor, add: Callable[[Tensor, int], object]) -> None:
        """Take some parameters, as rows of a matrix.

        Arguments:
            beyond: zeros, (rows, columns).
            add: (beyond, lag) adds what the cells at a lag contribute to the gradient; called from the farthest lag on.
        """
        rows = len(beyond)
        sums = beyond.new_empty(self.window + 1, *beyond.shape)  # row i: the sum of g_W - g_j over j > i
        sums[-1] = 0
        # Row by row: summed up in single precision, millions of numbers would be off in the fourth digit.
        norms = beyond.new_empty(2, self.window, rows)
        for lag in reversed(range(self.window)):
            torch.linalg.vector_norm(beyond, dim=1, out=norms[0, lag])  # beyond is g_W - g_K for K = lag + 1
            torch.add(sums[lag + 1], beyond, out=sums[lag])
            add(beyond, lag)
        lost = torch.empty_like(beyond)
        for row, (first, last) in enumerate(zip(self.first, self.last, strict=True)):
            torch.sub(sums[first - 1], sums[last], out=lost)
            torch.linalg.vector_norm(lost, dim=1, out=norms[1, row])
        self.errors += norms.double().square().sum(dim=2)
        self.products += torch.linalg.vecdot(sums, beyond).double().sum(dim=1)
        self.square += torch.linalg.vector_norm(beyond, dim=1).double().square().sum()

    def result(self, names: Sequence[str], scale: float, sketches: LossSketches | None = None) -> ParameterGradients:
        """`scale` multiplies all gradients."""
        square = scale**2 * float(self.square)
        of_steps, of_scheme = scale**2 * self.errors.cpu().numpy()
        of_scheme = of_scheme / self.count**2
        sums = scale**2 * self.products.cpu().numpy()
        lost_of_steps, lost = sums[:-1] - sums[1:], (sums[self.first - 1] - sums[self.last]) / self.count
        with np.errstate(divide="ignore", invalid="ignore"):
            bias, bias_of_steps = np.sqrt(of_scheme / square), np.sqrt(of_steps / square)
            kept, kept_of_steps = (
                np.maximum(square - 2 * product + error, 0)
                for product, error in ((lost, of_scheme), (lost_of_steps, of_steps))
            )
            cosine, cosine_of_steps = (
                np.clip((square - product) / np.sqrt(square * kept_square), -1, 1)
                for product, kept_square in ((lost, kept), (lost_of_steps, kept_of_steps))
            )
        resampled = noise = None
        if sketches is not None:
            resampled = sketches.resampled_bias(self, bias)
            noise = sketches.noise(self, kept, square - lost)
        norm = float(np.sqrt(square))
        return ParameterGradients(tuple(names), norm, bias, cosine, bias_of_steps, cosine_of_steps, resampled, noise)


class LossSketches:
    """Random projections of every loss's gradient, lag by lag, from which its norms and products are estimated."""

    def __init__(
        self,
        products: list[LayerProduct],
        window: int,
        losses: Tensor,
        weights: np.ndarray,
        generator: torch.Generator,
        counted: float,
        factors: Tensor | None,
    ) -> None:
        """`factors` and `counted` as in `ParameterSums`."""
        self.counted = counted
        self.counted_in_probe = 1.0 if factors is None else share_counted(factors)
        streams = losses.shape[1]
        # Pairs of different streams for each stream; fewer where the losses that count are in few streams.
        self.pairs = float(streams - 1)
        if factors is not None:
            of_streams = factors.double().sum(dim=0) / factors.double().sum()
            self.pairs = streams * (1 - float(of_streams.square().sum()))
        self.products = products
        self.weights = weights
        count = SKETCH if len(weights) else FEW_SKETCHES

        def signs(rows: int) -> Tensor:
            return torch.randint(2, (rows, count), generator=generator).mul_(2).sub_(1).to(losses)

        self.projections = []
        for _, product in products:
            inputs = product.kept.whole  # (T, B, n)
            self.projections.append((signs(product.stop - product.start), inputs @ signs(inputs.shape[-1])))
        # Of the mean loss over streams: a stream's own gradient is B times as large.
        self.lags = losses.new_zeros(window, *losses.shape, count)

    def add(self, segment: Segment, gates: list[Tensor]) -> None:
        """Add a segment's lags, from the gates of each layer, (lags, P', B, gates * H)."""
        rows = self.lags[segment.lag : segment.lag + len(segment.steps), -segment.count :]
        for (level, product), (signs, inputs) in zip(self.products, self.projections, strict=True):
            of_product = gates[level][..., product.start : product.stop] @ signs
            rows.addcmul_(of_product, inputs.index_select(0, segment.steps.flatten()).view(rows.shape))

    def resampled_bias(self, truncation: TruncationSums, bias: np.ndarray) -> np.ndarray | None:
        """The scheme's bias in each resample, (R, W), scaled so that the bias without resampling is the exact one."""
        if not len(self.weights):
            return None
        weights = with_mean(self.weights, self.lags[0, ..., 0]).flatten(1)
        of_resamples = torch.matmul(weights, self.lags.flatten(1, 2))  # (W, 1 + R, SKETCH)
        beyond = torch.cat([_from_the_end(of_resamples), torch.zeros_like(of_resamples[:1])])
        sums = torch.cat([_from_the_end(beyond[1:]), torch.zeros_like(beyond[:1])])
        lost = torch.linalg.vector_norm(sums[truncation.first - 1] - sums[truncation.last], dim=-1)
        norms = torch.linalg.vector_norm(beyond[0], dim=-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = lost.T.double().cpu().numpy() / truncation.count / norms[:, None].double().cpu().numpy()
            resampled: np.ndarray = found[1:] * np.where(found[0] > 0, bias / found[0], 1.0)
        return resampled

    def noise(self, truncation: TruncationSums, kept: np.ndarray, along: np.ndarray) -> GradientNoise:
        """Of ||m_K||^2 and g_W m_K, as they are with noise, (W,), and of each stream's own."""
        window, positions, streams, count = self.lags.shape
        some = max(1, SUMMED // (window * positions * count))
        found = [self._of_streams(each * streams, truncation) for each in self.lags.split(some, dim=2)]
        means, *others = (torch.cat(each, dim=1).double() for each in zip(*found, strict=True))
        squares, own, own_along = (each.cpu().numpy() for each in others)
        squares = squares * self.counted_in_probe  # where a loss does not count, its square is 0
        pairs = self.pairs if self.pairs > ALONE else np.nan
        signal = (streams * kept - own.mean(axis=1)) / pairs
        # What the projections make of the signal is taken from what they make of the squares: of a strong signal their
        # error would be large beside the noise.
        kept_in_sketch = means.mean(dim=1).square().mean(dim=1).cpu().numpy()
        in_sketch = (streams * kept_in_sketch - own.mean(axis=1)) / pairs
        return GradientNoise(
            streams,
            truncation.count * self.counted,
            truncation.steps,
            squares.mean(axis=1) - in_sketch + signal if self.pairs > ALONE else squares.mean(axis=1),
            squares.std(axis=1, ddof=1) if streams > 1 else np.full(window, np.nan),
            signal,
            (streams * along - own_along.mean(axis=1)) / pairs,
        )

    @staticmethod
    def _of_streams(lags: Tensor, truncation: TruncationSums) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of some streams' own gradients at each lag, (W, P, B', sketches), for every K.

        The mean over positions, (W, B', sketches); then, (W, B'), the mean squared norm over positions, the squared
        norm of the mean, and its product with the whole window's.
        """
        truncated = _from_the_start(lags)  # by steps
        whole = truncated[-1]
        sums = torch.cat([torch.zeros_like(truncated[:1]), _from_the_start(truncated)])
        longer, count = (
            torch.from_numpy(numbers).to(sums)[:, None, None, None] for numbers in (truncation.longer, truncation.count)
        )
        losses = (sums[truncation.last] - sums[truncation.first - 1] + longer * whole) / count
        mean = losses.mean(dim=1)
        along = (mean * whole.mean(dim=0)).mean(dim=-1)
        return mean, losses.square().mean(dim=(1, 3)), mean.square().mean(dim=-1), along


class ParameterSums:
    """Sums the gradients of the gates of torch's recurrent layers to `ParameterGradients`.

    The gates of each layer are (lags, P', B, gates * H). All of them are sketched, segment by segment, and then taken,
    at all lags, as many columns at once as the caller keeps.
    """

    def __init__(
        self,
        names: Sequence[str],
        layers: list[Layer],
        window: int,
        losses: Tensor,
        scheme: str,
        sketched: tuple[np.ndarray, torch.Generator] | None,
        factors: Tensor | None = None,
        counted: float = 1.0,
    ) -> None:
        """`factors` multiply the gradients of losses, (P, B); `counted` is the share of the stream's that count."""
        self.names = names
        self.factors = None if factors is None else factors.to(losses)[:, :, None]
        self.positions = len(losses)
        made = ((level, product) for level, layer in enumerate(layers) for product in layer.products())
        self.products = [LayerProduct(*each) for each in made]
        self.truncation = TruncationSums(window, scheme, losses.device)
        masks = counted, factors
        self.sketches = None if sketched is None else LossSketches(self.products, window, losses, *sketched, *masks)

    def scale(self, gates: list[Tensor]) -> None:
        """Multiply the gates of the last positions, in place, by their factors."""
        if self.factors is not None:
            for of_layer in gates:
                of_layer *= self.factors[-of_layer.shape[1] :]

    def sketch(self, segment: Segment, gates: list[Tensor]) -> None:
        if self.sketches is not None:
            self.sketches.add(segment, gates)

    def take(self, segments: list[Segment], gates: list[list[Tensor]], columns: list[slice]) -> None:
        """Take some columns of each layer's gates, which are given at all lags, segment by segment."""
        places = [(number, index) for number, segment in enumerate(segments) for index in range(len(segment.steps))]
        for level, product in self.products:
            begin, end = max(product.start, columns[level].start), min(product.stop, columns[level].stop)
            width = product.kept.whole.shape[-1]
            some = max(1, SUMMED // ((len(places) + 1) * width))
            for start in range(begin, end, some):
                rows = slice(start - columns[level].start, min(start + some, end) - columns[level].start)
                chosen = [of_segment[level][..., rows].flatten(1, 2).mT for of_segment in gates]  # (lags, rows, P' B)

                def add(beyond: Tensor, lag: int, chosen: list[Tensor] = chosen, product: Product = product) -> None:
                    if lag < len(places):
                        number, index = places[lag]
                        beyond.addmm_(chosen[number][index], product.kept.at(segments[number], index).flatten(0, -2))

                self.truncation.take(product.kept.whole.new_zeros(rows.stop - rows.start, width), add)

    def result(self) -> ParameterGradients:
        return self.truncation.result(self.names, 1 / self.positions, self.sketches)


def _from_the_start(values: Tensor) -> Tensor:
    """Row i: the sum of the rows up to i."""
    if values.is_cuda:
        return values.cumsum(dim=0)
    sums = values.clone()  # on the CPU, torch's cumsum over the first axis takes 15 times as long
    for before, row in pairwise(sums):
        row += before
    return sums


def _from_the_end(values: Tensor) -> Tensor:
    """Row i: the sum of the rows from i on."""
    return _from_the_start(values.flip(0)).flip(0)

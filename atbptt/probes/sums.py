"""What a probe measures at every lag, and the sums over streams and loss positions that it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from atbptt.probes.lags import Segment
from atbptt.probes.layers import Layer
from atbptt.probes.settings import SKETCH

LAGS_AT_ONCE = 16  # lags that are summed at once
ROWS = 2**18  # numbers of a gradient that are summed up at once, while they are in cache


@dataclass(frozen=True)
class LagGradients:
    """Gradients of losses at P positions with respect to the states at lags 1..W; row 0 is lag 1.

    The loss at a position is the mean over the B streams. A position fewer than W steps into the window has no state
    at the largest lags: NaN there. A gradient that is not finite has infinite norm. Positions are in ascending order.

    Attributes:
        losses: (P, B).
        norms: phi, (P, W, B), over all layers and, for an LSTM, h and c together.
        component_norms: the same for each of C components (each state tensor of each layer), (C, P, W, B).
        components: their names, `hidden0`, `cell0`, ...
        kept_of_mean: (W,), the norm of the gradient averaged over streams and positions and summed over lags up to the
            row's.
        component_kept_of_mean: the same for each component, (C, W).
        weights: of each loss in R resamples, (R, P, B), each with the sum 1.
        resampled_kept_of_mean: `kept_of_mean` of each resample, (R, W).
        parameters: gradients of the recurrent parameters; None if they were not measured.
        unsuited: why the model was run step by step; None if its layers were taken apart.
    """

    losses: np.ndarray
    norms: np.ndarray
    component_norms: np.ndarray
    components: tuple[str, ...]
    kept_of_mean: np.ndarray
    component_kept_of_mean: np.ndarray
    weights: np.ndarray
    resampled_kept_of_mean: np.ndarray
    parameters: ParameterGradients | None
    unsuited: str | None


class LagSums:
    """Sums gradients with respect to states, some lags of a component at a time, to `LagGradients`."""

    def __init__(self, components: Sequence[str], window: int, losses: Tensor, weights: np.ndarray) -> None:
        self.components = tuple(components)
        self.losses = losses
        self.resampling = weights
        self.weights = _with_mean(weights, losses)
        count = len(self.components)
        self.squares = losses.new_full((count, len(losses), window, losses.shape[1]), torch.nan, dtype=torch.float64)
        self.sums = [losses.new_zeros(1, 1)] * count  # of the gradients up to a lag, (1 + R, H)
        self.squares_of_sums = losses.new_full((count, window, 1 + len(weights)), torch.nan, dtype=torch.float64)

    def add(self, component: int, row: int, gradients: Tensor) -> None:
        """Add (lags, P', B, H) of the last P' positions, from lag row + 1 on; lags must come in order."""
        left = gradients.shape[1]
        weights = self.weights[:, -left:].flatten(1)
        # A resample that has none of the positions left has no gradient.
        weights = (weights / weights.sum(dim=1, keepdim=True)).nan_to_num(nan=0.0)
        for some in gradients.split(LAGS_AT_ONCE):
            rows = slice(row, row + len(some))
            norms = torch.linalg.vector_norm(some, dim=-1, dtype=torch.float64)  # (lags, P', B)
            squares = norms.square().nan_to_num(nan=torch.inf, posinf=torch.inf)
            self.squares[component, -left:, rows] = squares.swapaxes(0, 1)
            sums = torch.matmul(weights, some.flatten(1, 2)).cumsum(dim=0) + self.sums[component]
            self.sums[component] = sums[-1]
            self.squares_of_sums[component, rows] = torch.linalg.vector_norm(sums, dim=-1, dtype=torch.float64).square()
            row += len(some)

    def result(self, parameters: ParameterGradients | None, unsuited: str | None = None) -> LagGradients:
        squares = self.squares.cpu().numpy()
        kept = self.squares_of_sums.cpu().numpy()
        lags = int((~np.isnan(squares[0, -1, :, 0])).sum())
        kept[:, lags:] = kept[:, lags - 1 : lags]  # nothing is added beyond the last position's lags
        return LagGradients(
            losses=self.losses.double().cpu().numpy(),
            norms=np.sqrt(squares.sum(axis=0)),
            component_norms=np.sqrt(squares),
            components=self.components,
            kept_of_mean=np.sqrt(kept[:, :, 0].sum(axis=0)),
            component_kept_of_mean=np.sqrt(kept[:, :, 0]),
            weights=self.resampling,
            resampled_kept_of_mean=np.sqrt(kept[:, :, 1:].sum(axis=0)).T,
            parameters=parameters,
            unsuited=unsuited,
        )


@dataclass(frozen=True)
class ParameterGradients:
    """The gradient g_K of the recurrent parameters, truncated at K = 1..W steps; row 0 is K = 1.

    Of the mean loss over positions and streams. A position fewer than W steps into the window is backpropagated to the
    window's start.

    Attributes:
        names: of the recurrent parameters.
        norm: ||g_W||.
        bias: ||g_K - g_W|| / ||g_W||, (W,); NaN if there is no gradient at all.
        cosine: of the angle between g_K and g_W, (W,); NaN if either is zero.
        resampled_bias: `bias` in each of R resamples of streams and positions, (R, W). None for models other than
            torch's recurrent layers, whose gradients are not known stream by stream.
    """

    names: tuple[str, ...]
    norm: float
    bias: np.ndarray
    cosine: np.ndarray
    resampled_bias: np.ndarray | None


def parameter_gradients(
    names: Sequence[str], square: float, errors: np.ndarray, products: np.ndarray, resampled: np.ndarray | None
) -> ParameterGradients:
    """From the square of ||g_W||, those of ||g_K - g_W|| and the products (g_W - g_K) g_W, for K = 1..W.

    `resampled` estimates ||g_K - g_W|| / ||g_W||, (1 + R, W): without resampling in row 0, then of each resample.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        bias = np.sqrt(errors / square)
        kept = square - 2 * products + errors  # ||g_K||^2
        cosine = (square - products) / np.sqrt(square * np.maximum(kept, 0))
        if resampled is not None:
            # The error of the projections is the same with and without resampling.
            resampled = resampled[1:] * np.where(resampled[0] > 0, bias / resampled[0], 1.0)
    return ParameterGradients(tuple(names), float(np.sqrt(square)), bias, np.clip(cosine, -1, 1), resampled)


class ParameterSums:
    """Sums the gradients of the gates of torch's recurrent layers to `ParameterGradients`.

    First all lags, in any order, by `add_all`; then from the farthest lag to the nearest by `take_lags`. Both take the
    gates of each layer, (lags, P', B, gates * H).
    """

    def __init__(
        self,
        names: Sequence[str],
        layers: list[Layer],
        window: int,
        losses: Tensor,
        weights: np.ndarray,
        generator: torch.Generator,
    ) -> None:
        self.names = names
        self.positions = len(losses)
        self.products = [(level, product) for level, layer in enumerate(layers) for product in layer.products()]
        all_inputs = [product.kept.whole for _, product in self.products]  # (T, B, n)
        widths = [product.stop - product.start for _, product in self.products]
        shapes = list(zip(widths, all_inputs, strict=True))
        self.full = [inputs.new_zeros(width, inputs.shape[-1]) for width, inputs in shapes]
        self.beyond = [torch.zeros_like(full) for full in self.full]  # g_W - g_K
        # Row by row: summed up in single precision, millions of numbers would be off in the fourth digit.
        self.error_norms = losses.new_zeros(window, sum(widths))
        self.inner_products = losses.new_zeros(window, sum(widths))
        self.weights: Tensor | None = None
        if len(weights):
            self.weights = _with_mean(weights, losses)

            def signs(rows: int) -> Tensor:
                return torch.randint(2, (rows, SKETCH), generator=generator).mul_(2).sub_(1).to(losses)

            self.sketches = [(signs(width), inputs @ signs(inputs.shape[-1])) for width, inputs in shapes]
            self.sketched = losses.new_zeros(window, len(self.weights), SKETCH)

    def add_all(self, segment: Segment, gates: list[Tensor]) -> None:
        lags, steps = len(segment.steps), segment.steps.flatten()
        projected = []
        for number, (layer, product) in enumerate(self.products):
            of_product = gates[layer][..., product.start : product.stop]
            inputs = product.kept.whole.index_select(0, steps)  # (lags * P', B, n)
            self.full[number].addmm_(of_product.flatten(0, 2).t(), inputs.flatten(0, 1))
            if self.weights is not None:
                signs, sketched_inputs = self.sketches[number]
                sketched = sketched_inputs.index_select(0, steps).view(lags, -1, SKETCH)
                projected.append((of_product @ signs).view(lags, -1, SKETCH) * sketched)
        if self.weights is not None:
            weights = self.weights[:, -segment.count :].flatten(1)
            self.sketched[segment.lag : segment.lag + lags] = torch.matmul(weights, torch.stack(projected).sum(dim=0))

    def take_lags(self, segment: Segment, gates: list[Tensor]) -> None:
        """Measure ||g_K - g_W|| for the K of a segment, after all segments beyond it."""
        first = 0
        for number, (layer, product) in enumerate(self.products):
            of_product = gates[layer][..., product.start : product.stop].flatten(1, 2).mT  # (lags, width, P' B)
            inputs = [product.kept.at(segment, index).flatten(0, -2) for index in range(len(segment.steps))]
            some = max(1, ROWS // inputs[0].shape[1])
            # All lags for some rows, then for others: the rows stay in cache.
            width = product.stop - product.start
            for start in range(0, width, some):
                rows = slice(start, min(start + some, width))
                noted = slice(first + rows.start, first + rows.stop)
                beyond, full = self.beyond[number][rows], self.full[number][rows]
                for index in reversed(range(len(inputs))):
                    lag = segment.lag + index
                    torch.linalg.vector_norm(beyond, dim=1, out=self.error_norms[lag, noted])
                    torch.linalg.vecdot(beyond, full, out=self.inner_products[lag, noted])
                    beyond.addmm_(of_product[index, rows], inputs[index])
            first += width

    def result(self) -> ParameterGradients:
        square = sum(float(torch.linalg.vector_norm(full, dim=1).double().square().sum()) for full in self.full)
        resampled = None
        if self.weights is not None:
            beyond = self.sketched.flip(0).cumsum(dim=0).flip(0)  # row k: cells from lag k on
            norms = torch.linalg.vector_norm(beyond, dim=-1).cpu().double().numpy().T  # (1 + R, W)
            with np.errstate(divide="ignore", invalid="ignore"):
                resampled = np.pad(norms[:, 1:], ((0, 0), (0, 1))) / norms[:, :1]
        scale = self.positions**-2  # of the mean over positions, squared
        return parameter_gradients(
            self.names,
            scale * square,
            scale * self.error_norms.double().square().sum(dim=1).cpu().numpy(),
            scale * self.inner_products.double().sum(dim=1).cpu().numpy(),
            resampled,
        )


def _with_mean(weights: np.ndarray, losses: Tensor) -> Tensor:
    """The weights of the mean over all losses, then those of R resamples: (1 + R, P, B)."""
    mean = torch.full_like(losses, 1 / losses.numel()).unsqueeze(0)
    return torch.cat([mean, torch.from_numpy(weights).to(losses)])

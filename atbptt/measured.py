"""Measured relative bias: how far truncated gradients of the recurrent parameters are from the whole window's.

Backpropagating a loss through the K steps up to its own gives g_K, through all steps of the probe window g_W. The
difference is what the parameters' gradient gains at the cells beyond, so that one sweep over the cells, from the
farthest on, gives ||g_K - g_W|| for every K.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from atbptt.recurrence import Product
from atbptt.segments import Segment

ROWS = 2**18  # numbers of a gradient that are summed up at once, while they are in cache
SKETCH = 128  # random projections from which the norms of resampled gradients are estimated


@dataclass(frozen=True)
class ParameterGradients:
    """The gradient g_K of the recurrent parameters, truncated at K = 1..W steps; row 0 is K = 1.

    Of the mean loss over positions and streams. A position that lies fewer than W steps into the window is
    backpropagated to the window's start.

    Attributes:
        names: of the recurrent parameters.
        norm: ||g_W||.
        bias: ||g_K - g_W|| / ||g_W||, (W,); NaN where there is no gradient at all, which tells nothing.
        cosine: of the angle between g_K and g_W, (W,); NaN where either is zero.
        resampled_bias: the same as `bias` in each of R resamples of streams and positions, (R, W). None where
            streams cannot be told apart: probes of models other than torch's recurrent layers.
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

    Arguments:
        resampled: estimates of ||g_K - g_W|| / ||g_W||: in row 0 without resampling, then of each resample,
            (1 + R, W).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        bias = np.sqrt(errors / square)
        kept = square - 2 * products + errors  # ||g_K||^2
        cosine = (square - products) / np.sqrt(square * np.maximum(kept, 0))
        if resampled is not None:
            # What the projections get wrong without resampling they get wrong with it.
            resampled = resampled[1:] * np.where(resampled[0] > 0, bias / resampled[0], 1.0)
    return ParameterGradients(tuple(names), float(np.sqrt(square)), bias, np.clip(cosine, -1, 1), resampled)


class ParameterSums:
    """Takes the gradients of the gates of torch's recurrent layers, and measures the parameters' of them.

    First all lags, in any order, by `add_all`; then from the farthest lag to the nearest by `take_lags`.

    Arguments:
        names: of the parameters.
        products: of each layer, where its parameters meet the adjoint.
        window: W.
        losses: P positions x B streams, (P, B).
        weights: of R resamples, (R, P, B), each with the sum 1.
        generator: for the random projections, on the CPU.
    """

    def __init__(
        self,
        names: Sequence[str],
        products: list[list[Product]],
        window: int,
        losses: Tensor,
        weights: np.ndarray,
        generator: torch.Generator,
    ) -> None:
        self.names = names
        self.positions = len(losses)
        self.products = [(layer, product) for layer, of_layer in enumerate(products) for product in of_layer]
        self.full = [product.inputs.new_zeros(product.width, product.inputs.shape[-1]) for _, product in self.products]
        self.beyond = [torch.zeros_like(full) for full in self.full]  # g_W - g_K
        # Row by row: summed up in single precision, millions of numbers would be off in the fourth digit.
        rows = sum(len(full) for full in self.full)
        self.error_norms = losses.new_zeros(window, rows)
        self.inner_products = losses.new_zeros(window, rows)
        self.weights: Tensor | None = None
        if len(weights):
            resamples = torch.from_numpy(weights).to(losses)
            self.weights = torch.cat([torch.full_like(resamples[:1], 1 / losses.numel()), resamples])
            self.sketches = [
                (_signs(product.width, product.inputs, generator), _sketched(product.inputs, generator))
                for _, product in self.products
            ]
            self.sketched = losses.new_zeros(window, len(self.weights), SKETCH)

    def add_all(self, segment: Segment, gates: list[Tensor]) -> None:
        """Add the gradient of a segment to that of the whole window.

        Arguments:
            gates: of each layer, (lags, P', B, gates * H).
        """
        lags, left = segment.steps.shape
        steps = segment.steps.flatten()
        projected = []
        for number, (layer, product) in enumerate(self.products):
            of_product = gates[layer][..., product.start : product.stop]
            inputs = product.inputs.index_select(0, steps)  # (lags * P', B, n)
            self.full[number].addmm_(of_product.flatten(0, 2).t(), inputs.flatten(0, 1))
            if self.weights is not None:
                signs, sketched_inputs = self.sketches[number]
                sketched = sketched_inputs.index_select(0, steps).view(lags, -1, SKETCH)
                projected.append((of_product @ signs).view(lags, -1, SKETCH) * sketched)
        if self.weights is not None:
            weights = self.weights[:, -left:].flatten(1)
            self.sketched[segment.lag : segment.lag + lags] = torch.matmul(weights, torch.stack(projected).sum(dim=0))

    def take_lags(self, segment: Segment, gates: list[Tensor]) -> None:
        """Measure ||g_K - g_W|| for the K of a segment, those of all segments beyond being taken.

        Arguments:
            gates: of each layer, (lags, P', B, gates * H).
        """
        first = 0
        for number, (layer, product) in enumerate(self.products):
            of_product = gates[layer][..., product.start : product.stop].flatten(1, 2).mT  # (lags, width, P' B)
            inputs = [product.kept.at(cells).flatten(0, -2) for cells in segment.cells]
            some = max(1, ROWS // inputs[0].shape[1])
            # All lags for some rows, then for others: the rows stay in cache.
            for start in range(0, product.width, some):
                rows = slice(start, min(start + some, product.width))
                noted = slice(first + rows.start, first + rows.stop)
                beyond, full = self.beyond[number][rows], self.full[number][rows]
                for index in reversed(range(len(inputs))):
                    lag = segment.lag + index
                    torch.linalg.vector_norm(beyond, dim=1, out=self.error_norms[lag, noted])
                    torch.linalg.vecdot(beyond, full, out=self.inner_products[lag, noted])
                    beyond.addmm_(of_product[index, rows], inputs[index])
            first += product.width

    def result(self) -> ParameterGradients:
        """The norms of all lags."""
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


def _signs(rows: int, like: Tensor, generator: torch.Generator) -> Tensor:
    """Random projections: signs (rows, SKETCH)."""
    return torch.randint(2, (rows, SKETCH), generator=generator).mul_(2).sub_(1).to(like)


def _sketched(inputs: Tensor, generator: torch.Generator) -> Tensor:
    """Inputs (T, B, n) projected, (T, B, SKETCH)."""
    return inputs @ _signs(inputs.shape[-1], inputs, generator)

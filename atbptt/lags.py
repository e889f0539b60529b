"""What a probe measures at every lag, and the sums over streams and loss positions that it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from atbptt.measured import ParameterGradients

LAGS_AT_ONCE = 16  # that are summed, where more are given


@dataclass(frozen=True)
class LagGradients:
    """Gradients of losses at P positions with respect to the states at lags 1..W; row 0 is lag 1.

    The loss at a position is the mean over the B streams. A position that lies fewer than W steps into the
    window has no state at the largest lags: NaN there. A gradient that is not finite has infinite norm. Positions
    stand in ascending order.

    Attributes:
        losses: (P, B).
        norms: phi, (P, W, B), over all layers and, for an LSTM, h and c together.
        component_norms: the same for each of C components (each state tensor of each layer), (C, P, W, B).
        components: their names, `hidden0`, `cell0`, ...
        kept_of_mean: (W,), the norm of the gradient, averaged over streams and positions and summed over
            lags up to the row's.
        component_kept_of_mean: the same for each component, (C, W).
        weights: of each loss in R resamples, (R, P, B), each with the sum 1.
        resampled_kept_of_mean: `kept_of_mean` of each resample, (R, W).
        parameters: what was measured of the gradient with respect to the recurrent parameters, if it was.
        unsuited: why the model was run step by step; None where its layers were taken apart.
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
    """Takes gradients with respect to states, some lags of a component at a time, and makes `LagGradients` of them.

    Arguments:
        components: their names.
        window: W.
        losses: (P, B).
        weights: of R resamples, (R, P, B).
    """

    def __init__(self, components: Sequence[str], window: int, losses: Tensor, weights: np.ndarray) -> None:
        self.components = tuple(components)
        self.losses = losses
        self.resampling = weights
        resamples = torch.from_numpy(weights).to(losses)
        self.weights = torch.cat([torch.full_like(losses, 1 / losses.numel()).unsqueeze(0), resamples])
        count = len(self.components)
        self.squares = losses.new_full((count, len(losses), window, losses.shape[1]), torch.nan, dtype=torch.float64)
        self.sums = [losses.new_zeros(1, 1)] * count  # of the gradients up to a lag, (1 + R, H)
        self.squares_of_sums = losses.new_full((count, window, 1 + len(weights)), torch.nan, dtype=torch.float64)

    def add(self, component: int, row: int, gradients: Tensor) -> None:
        """Take the gradients of a component.

        Arguments:
            row: lag - 1 of the first; lags must come in order.
            gradients: (lags, P', B, H), of the last P' positions; of those before, the window holds no such lag.
        """
        for start in range(0, len(gradients), LAGS_AT_ONCE):
            self._add(component, row + start, gradients[start : start + LAGS_AT_ONCE])

    def _add(self, component: int, row: int, gradients: Tensor) -> None:
        lags, left = gradients.shape[:2]
        rows = slice(row, row + lags)
        norms = torch.linalg.vector_norm(gradients, dim=-1, dtype=torch.float64)  # (lags, P', B)
        self.squares[component, -left:, rows] = (
            norms.square().nan_to_num(nan=torch.inf, posinf=torch.inf).swapaxes(0, 1)
        )
        weights = self.weights[:, -left:].flatten(1)
        # Where a resample has none of the positions left, it knows of no gradient.
        weights = (weights / weights.sum(dim=1, keepdim=True)).nan_to_num(nan=0.0)
        sums = torch.matmul(weights, gradients.flatten(1, 2)).cumsum(dim=0) + self.sums[component]
        self.sums[component] = sums[-1]
        self.squares_of_sums[component, rows] = torch.linalg.vector_norm(sums, dim=-1, dtype=torch.float64).square()

    def result(self, parameters: ParameterGradients | None, unsuited: str | None = None) -> LagGradients:
        """All lags together; `parameters` and `unsuited` as in `LagGradients`."""
        squares = self.squares.cpu().numpy()
        kept = self.squares_of_sums.cpu().numpy()
        lags = int((~np.isnan(squares[0, -1, :, 0])).sum())
        kept[:, lags:] = kept[:, lags - 1 : lags]  # beyond the last position's nothing is added
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

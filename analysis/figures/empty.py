"""What a figure's data lack."""

from __future__ import annotations

from atbptt.errors import AnalysisError


class NoDataError(AnalysisError):
    """The data have nothing that this figure shows; `draw` leaves it out."""

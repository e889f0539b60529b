"""How many CPU cores there are to compute on."""

from __future__ import annotations

import joblib


def available_cores() -> int:
    """Cores that this process may use, by affinity and by the limits of a container."""
    return int(joblib.cpu_count())

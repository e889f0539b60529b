"""The report: one HTML file with summary, leaderboard, tables, figures, failures, configuration, environment."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .page import render as render, write_report as write_report
else:
    from atbptt.lazy import exports

    __all__, __getattr__, __dir__ = exports(__name__)

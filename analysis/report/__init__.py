"""The report: one HTML file with summary, leaderboard, tables, figures, failures, configuration, environment."""

from analysis.report.page import render, write_report

__all__ = ["render", "write_report"]

"""What is printed of a diagnosis: the run, phi by lag, K(delta), and the answer in words."""

from __future__ import annotations

import math

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from analysis.diagnosis.measuring import SHARES, Diagnosis, answer, half_life, judgement, lag_of_share, shown_lags
from atbptt.config import Component
from atbptt.errors import show
from atbptt.probes import ProbeSettings
from atbptt.runs import schema

BAR_PER_DECADE, BAR_DECADES = 4, 8


def report(diagnosis: Diagnosis) -> RenderableType:
    """All of it, for a console of 80 columns or more."""
    bound = diagnosis.measurement.estimate.bound
    parts: list[RenderableType] = [
        _facts(diagnosis),
        Text("\nHow far back: phi, the norm of a loss's gradient at the state so many steps before\n"),
        _phi_table(diagnosis.phi),
        Text("\n" + _fall(diagnosis.phi, bound.log_beta, diagnosis.settings)),
        Text("\nWhat truncation at K loses: the smallest K whose relative bias is at most delta\n"),
        _length_table(diagnosis),
        Text("\n" + _present(diagnosis)),
        Text(f"\n{answer(diagnosis.lengths, diagnosis.settings.window)}", style="bold"),
        Text(judgement(diagnosis.lengths, diagnosis.trained.K, diagnosis.settings.window), style="bold"),
    ]
    return Group(*parts)


def _facts(diagnosis: Diagnosis) -> Table:
    trained, settings = diagnosis.trained, diagnosis.settings
    streams = getattr(trained.task, diagnosis.split).batch
    facts = {
        "run": f"{trained.experiment_id}" + (f" ({trained.state})" if trained.state else ""),
        "checkpoint": str(trained.checkpoint),
        "task": trained.settings.component("dataset").name,
        "model": _described(trained.settings.component("model")),
        "policy": _described(trained.settings.component("truncation")),
        "at": f"epoch {trained.epoch:.3g}, step {trained.step}, K = {trained.K}, scheme {trained.settings.scheme}",
        "probed": f"{diagnosis.split} streams: W = {settings.window} steps (tau = {settings.tau}) "
        f"after {settings.burn_in} of burn-in; {_counted(settings.positions, 'loss position')}, "
        f"{streams} streams, {_counted(settings.probes, 'probe')}",
    }
    table = Table.grid(padding=(0, 2, 0, 0))
    for name, value in facts.items():
        table.add_row(Text(name, style="dim"), Text(value, overflow="fold"))
    return table


def _described(component: Component) -> str:
    arguments = ", ".join(f"{key}={show(value)}" for key, value in component.arguments.items() if value is not None)
    return f"{component.name} ({arguments})" if arguments else component.name


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")


def _phi_table(phi: np.ndarray) -> Table:
    table = _table("lag", "phi", "of lag 1")
    table.add_column(f"log scale, {BAR_PER_DECADE} # a decade")
    for lag in shown_lags(len(phi)):
        value = phi[lag - 1]
        table.add_row(str(lag), f"{value:.3g}", f"{value / phi[0]:.3g}", _bar(value / phi.max()))
    return table


def _bar(share: float) -> str:
    """As long as a share of the largest has decades left above the least that is shown."""
    decades = BAR_DECADES + (math.log10(share) if share > 0 else -math.inf)
    return "#" * round(BAR_PER_DECADE * max(decades, 0))


def _fall(phi: np.ndarray, log_beta: float, settings: ProbeSettings) -> str:
    fallen = [(share, lag_of_share(phi, share)) for share in SHARES]
    reached = [f"{100 * share:g} % from lag {lag} on" for share, lag in fallen if lag is not None]
    text = f"Of its size at lag 1, phi is at most {', '.join(reached)}." if reached else ""
    if len(reached) < len(SHARES):
        of = "" if reached else " of its size at lag 1"
        text = f"{text} Within the window it does not fall to {100 * SHARES[len(reached)]:g} %{of}.".strip()
    first = 1 + (settings.tau if settings.fit_from is None else settings.fit_from)
    if log_beta == -math.inf:
        return f"{text} From lag {first} on, too few lags carry a signal to fit a decay."
    if log_beta >= 0:
        return f"{text} Fitted from lag {first} on, it does not decay (log beta = {log_beta:.3g})."
    half = half_life(log_beta)
    return f"{text} Fitted from lag {first} on, its half-life is {half:.3g} steps (log beta = {log_beta:.3g})."


def _length_table(diagnosis: Diagnosis) -> Table:
    interval = f"{schema.INTERVAL:.0%}".replace("%", " % interval")
    table = _table("delta", "K by the bound", interval, "K as measured", interval)
    for each in diagnosis.lengths:
        measured = ("", "") if each.measured is None else (str(each.measured), each.measured.interval)
        table.add_row(f"{each.delta:g}", str(each.bound), each.bound.interval, *measured)
    return table


def _present(diagnosis: Diagnosis) -> str:
    K, measurement = diagnosis.trained.K, diagnosis.measurement
    facts = [f"bound {measurement.estimate.bound.at(K):.3g}"]
    if measurement.estimate.measured is not None:
        facts.append(f"measured {measurement.estimate.measured.at(K):.3g}")
    if (found := measurement.gradients.parameters) is not None:
        facts.append(f"cosine with the whole window's gradient {found.cosine[min(K, len(found.cosine)) - 1]:.4g}")
    return f"Relative bias at the present K = {K}: {', '.join(facts)}."


def _table(*headings: str) -> Table:
    table = Table(box=None, padding=(0, 0, 0, 2), header_style="dim")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table

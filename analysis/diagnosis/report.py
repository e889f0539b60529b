"""A diagnosis as text: the run, phi by lag, K(delta), the answer in words, and warnings."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from atbptt.config import Component
from atbptt.errors import show
from atbptt.probes import ProbeSettings, RelativeBias, at_length
from atbptt.runs.schema import INTERVAL

from .measuring import Diagnosis

FAR = 0.5  # of the window: a measured K(delta) beyond may be too short, as nothing beyond the window is measured
SHARES = (0.1, 0.01, 0.001)  # of phi at lag 1
BAR_PER_DECADE, BAR_DECADES = 4, 8


def report(diagnosis: Diagnosis, deltas: Sequence[float]) -> RenderableType:
    """All of the text but the warnings, for a console of 80 columns or more."""
    estimate, settings, K = diagnosis.measurement.estimate, diagnosis.settings, diagnosis.trained.K
    lengths, scheme = lengths_of(diagnosis, deltas), diagnosis.trained.settings.scheme
    return Group(
        _facts(diagnosis),
        Text("\nHow far back: phi, the norm of a loss's gradient at the state so many steps before\n"),
        _phi_table(diagnosis.phi),
        Text("\n" + decay(diagnosis.phi, estimate.bound.log_beta, settings)),
        Text("\nWhat truncation at K loses: the smallest K whose relative bias is at most delta\n"),
        _length_table(estimate.bound, estimate.measured, deltas),
        Text("\n" + _at_present(diagnosis)),
        Text(f"\n{answer(lengths, settings.window, scheme)}", style="bold"),
        Text(judgement(lengths, K, settings.window), style="bold"),
    )


def cautions(diagnosis: Diagnosis, deltas: Sequence[float]) -> list[str]:
    """Reasons to doubt the answer, a line each."""
    found, settings, measurement = [], diagnosis.settings, diagnosis.measurement
    far = [f"{each.delta:g}" for each in lengths_of(diagnosis, deltas) if each.is_far(settings.window)]
    if far:
        stream = getattr(diagnosis.trained.task, diagnosis.split)
        fits = settings.burn_in + 2 * settings.window <= stream.length
        found.append(
            f"K for delta {', '.join(far)} lies in the far half of the window (W = {settings.window}), beyond which "
            f"nothing is seen{f'; --window {2 * settings.window} tells more' if fits else ''}"
        )
    if measurement.estimate.bound.log_beta >= 0:
        found.append(
            "phi does not decay (beta >= 1): the bound is infinite, and the window too short or the probe noisy"
        )
    if settings.kept_norm == "sum":
        found.append("with kept_norm=sum what is called the bound is an estimate: the bias may exceed it")
    if measurement.estimate.measured is None:
        found.append("the model has no recurrent parameters to measure the bias of: there is the bound only")
    elif settings.resamples and not len(measurement.estimate.measured.resampled):
        found.append(f"no interval as measured: {measurement.gradients.unsuited}")
    return found


class Length(NamedTuple):
    """K(delta) by the bound, and as measured if it is; infinite where no K has so small a bias."""

    delta: float
    bound: float
    measured: float | None
    interval: str = ""  # of the measured one, or of the bound where it is not measured

    @property
    def steps(self) -> float:
        """As measured, else by the bound."""
        return self.bound if self.measured is None else self.measured

    def is_far(self, window: int) -> bool:
        """Whether the measured K is so close to W that it may be too short."""
        return self.measured is not None and self.measured > FAR * window


def lengths_of(diagnosis: Diagnosis, deltas: Sequence[float]) -> list[Length]:
    """K(delta) for each delta."""
    bound, measured = diagnosis.measurement.estimate.bound, diagnosis.measurement.estimate.measured
    found = []
    for delta in deltas:
        _, interval = length_cells(bound if measured is None else measured, delta)
        found.append(
            Length(delta, _steps(bound, delta), None if measured is None else _steps(measured, delta), interval)
        )
    return found


def answer(lengths: Sequence[Length], window: int, scheme: str) -> str:
    """Which K the network needs, in a sentence, with the intervals."""
    parts: list[str] = []
    for each in lengths:
        if each.steps < math.inf:
            K = f"{'at least ' if each.is_far(window) else ''}{each.steps:.0f}"
        else:
            K = "more than the bound can tell" if each.measured is None else f"more than {window}"
        K += f" ({each.interval})" if each.interval else ""
        parts.append(f"{K} {'for' if parts else 'for a relative bias of at most'} {each.delta:g}")
    if lengths[0].measured is None:
        return f"By the bound, this network needs a K of {_joined(parts)}."
    bound = _joined([_whole(each.bound) for each in lengths])
    return f"Under scheme={scheme} this network needs a K of {_joined(parts)}, as measured; by the bound, {bound}."


def judgement(lengths: Sequence[Length], K: int, window: int) -> str:
    """For which deltas the present K is long enough, in a sentence; lengths in the window's far half are left out."""
    near = [each for each in lengths if not each.is_far(window)]
    enough = [f"{each.delta:g}" for each in near if each.steps <= K]
    if enough:
        return f"Its present K = {K} is long enough for {_joined(enough)}."
    if len(near) < len(lengths):
        return f"Whether its present K = {K} is long enough, the window does not tell."
    return f"Its present K = {K} is too short for {'any of these' if len(lengths) > 1 else 'that'}."


def decay(phi: np.ndarray, log_beta: float, settings: ProbeSettings) -> str:
    """From which lags on phi (W,) is at most a share of its first, and the half-life by the fit, in sentences."""
    lags = [lag_of_share(phi, share) for share in SHARES]
    reached = [f"{100 * share:g} % from lag {lag} on" for share, lag in zip(SHARES, lags, strict=True) if lag]
    text = f"Of its size at lag 1, phi is at most {', '.join(reached)}." if reached else ""
    if len(reached) < len(SHARES):
        of = "" if reached else " of its size at lag 1"
        text = f"{text} Within the window it does not fall to {100 * SHARES[len(reached)]:g} %{of}.".strip()
    first = 1 + (settings.tau if settings.fit_from is None else settings.fit_from)
    if log_beta == -math.inf:
        return f"{text} From lag {first} on, too few lags carry a signal to fit a decay."
    if log_beta >= 0:
        return f"{text} Fitted from lag {first} on, it does not decay (log beta = {log_beta:.3g})."
    half_life = math.log(0.5) / log_beta
    return f"{text} Fitted from lag {first} on, its half-life is {half_life:.3g} steps (log beta = {log_beta:.3g})."


def lag_of_share(phi: np.ndarray, share: float) -> int | None:
    """The lag from which on phi (W,) is at most a share of phi at lag 1; None where the window ends before."""
    last = int(np.flatnonzero(phi > share * phi[0])[-1])  # a row: row 0 is lag 1
    return None if last + 1 == len(phi) else last + 2


def shown_lags(window: int) -> list[int]:
    """Lags 1, 2, 5, 10, 20, ... of a window, and its last."""
    decades = range(len(str(window)))
    return [lag for decade in decades for step in (1, 2, 5) if (lag := step * 10**decade) < window] + [window]


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


def _phi_table(phi: np.ndarray) -> Table:
    table = _table("lag", "phi", "of lag 1")
    table.add_column(f"log scale, {BAR_PER_DECADE} # a decade")
    for lag in shown_lags(len(phi)):
        value = phi[lag - 1]
        table.add_row(str(lag), f"{value:.3g}", f"{value / phi[0]:.3g}", bar(value / phi.max()))
    return table


def bar(share: float) -> str:
    """A bar for a share of the largest phi, on a log scale that ends `BAR_DECADES` below it."""
    decades = BAR_DECADES + (math.log10(share) if share > 0 else -math.inf)
    return "#" * round(BAR_PER_DECADE * max(decades, 0))


def _length_table(bound: RelativeBias, measured: RelativeBias | None, deltas: Sequence[float]) -> Table:
    interval = f"{100 * INTERVAL:.0f} % interval"
    table = _table("delta", "K by the bound", interval, "K as measured", interval)
    for delta in deltas:
        table.add_row(f"{delta:g}", *length_cells(bound, delta), *(length_cells(measured, delta) if measured else ()))
    return table


def length_cells(bias: RelativeBias, delta: float) -> tuple[str, str]:
    """K(delta), and the interval that holds `INTERVAL` of the resamples: `9 to 13`; empty without resamples."""
    low, high = bias.interval(delta, INTERVAL)
    interval = "" if math.isnan(low) else f"{_whole(low)} to {_whole(high)}"
    return _whole(_steps(bias, delta)), interval


def _at_present(diagnosis: Diagnosis) -> str:
    K, measurement = diagnosis.trained.K, diagnosis.measurement
    facts = [f"bound {measurement.estimate.bound.at(K):.3g}"]
    if measurement.estimate.measured is not None:
        facts.append(f"measured {measurement.estimate.measured.at(K):.3g}")
    if measurement.estimate.measured_of_steps is not None:
        of_steps = measurement.estimate.measured_of_steps.at(K)
        facts[-1] += f" ({of_steps:.3g} if every loss saw exactly {_counted(K, 'step')})"
    if (found := measurement.gradients.parameters) is not None:
        facts.append(f"cosine with the whole window's gradient {at_length(found.cosine, K):.4g}")
    text = f"Relative bias at the present K = {K}: {', '.join(facts)}."
    if (noise := measurement.noise) is not None:
        # The probes' streams are measured as one; an update has those of one probe.
        of_update = at_length(noise.signal_to_noise, K) / diagnosis.settings.probes
        text += f" Signal to noise of an update: {of_update:.3g}."
    return text


def _table(*headings: str) -> Table:
    table = Table(box=None, padding=(0, 0, 0, 2), header_style="dim")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _steps(bias: RelativeBias, delta: float) -> float:
    return bias.truncation(delta) or math.inf


def _whole(steps: float) -> str:
    return "none" if steps == math.inf else f"{steps:.0f}"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"

"""The loop: `Windows` walks over a stream, and each `StreamWindow` of it is one update."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn

from atbptt.errors import ConfigError, require
from atbptt.models import LossFunction, State, check_recurrent, check_streams, detach, halves, map_state, starting_state
from atbptt.probes import BiasEstimate, ProbeSettings
from atbptt.truncation import AnyPolicy, Policy, completed, kind_of
from atbptt.windows.cursor import Cursor
from atbptt.windows.learning_rate import share_of_base
from atbptt.windows.prober import Prober, check_asked
from atbptt.windows.schemes import Window, check_scheme
from atbptt.windows.streams import Stream
from atbptt.windows.update import window_loss

# Called with a purpose, `policy` before the policy sets K, `dropout` before a window runs, and with the step.
Seed = Callable[[str, int], object]


class StreamWindow:
    """One window of a stream: one loss to differentiate, one update.

    Attributes:
        steps: which steps of the stream it reads, and whose loss it counts.
        K: the policy's truncation length.
        losses: number of steps whose loss it counts.
        lr_scale: what a policy that draws K multiplies the learning rate with (AWD-LSTM's rule); 1 for others.
    """

    def __init__(self, windows: Windows, steps: Window, state: State) -> None:
        self._windows = windows
        self._state = state
        self.steps = steps
        self.K = windows.cursor.K
        self.losses = steps.losses
        policy, scheme = windows.cursor.policy, windows.cursor.scheme
        share = share_of_base(policy, scheme, steps)
        self.lr_scale = 1.0 if share is None else share
        self._factors = policy.adjoint_factors(steps.stop - steps.start)
        self._mean_loss: Tensor | None = None

    @property
    def mean_loss(self) -> Tensor:
        """Mean of the losses that it counts, detached (RuntimeError before `loss` is called)."""
        if self._mean_loss is None:
            raise RuntimeError("window.loss() must be called first: it computes the mean loss")
        return self._mean_loss

    def loss(self, steps_at_once: int | None = None) -> Tensor:
        """Run the model over the window: the scalar to call `backward` on, the mean of the losses that it counts.

        With scheme `buffer` it has the look-ahead's losses besides, which reach the parameters through the state only.
        The state that the next window starts in is handed over; called again, it is computed from the same state.

        Arguments:
            steps_at_once: the most steps that are decoded at once, which bounds the memory of many outputs; all if
                left out.
        """
        windows = self._windows
        objective, self._mean_loss, handed_over = window_loss(
            windows.halves, windows.loss, windows.stream, self.steps, self._state, steps_at_once, self._factors
        )
        windows._hand_over(self, handed_over)
        return objective


class Windows:
    """Cuts streams in windows, pass after pass, and hands the state over from each to the next.

    ```python
    windows = Windows(model, loss, inputs, targets, policy)
    for epoch in range(10):
        for window in windows:
            optimizer.zero_grad()
            window.loss().backward()
            optimizer.step()
    ```

    A `for` over it ends with the pass over the stream. After a `break`, the next one goes on with the window that comes
    then.

    Arguments:
        model: (inputs, state) -> (outputs, state), time first; see `atbptt.models.Recurrent`.
        loss: (outputs, targets) -> losses (T, B), one a step and stream, not yet averaged.
        inputs: B streams side by side, (T, B, ...), on the model's device; `batchify` makes them of one sequence.
        targets: (T, B, ...).
        policy: sets K before each window.
        scheme: one of `SCHEMES`.
        state: before the first step of every pass, and of every probe; zero if left out.
        probes: how the policy's probes are made, if it makes any.
        seed: of what these draw.

    Raises:
        ConfigError: what does not fit, by its name.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: LossFunction,
        inputs: Tensor,
        targets: Tensor,
        policy: AnyPolicy,
        *,
        scheme: str = "original-buffer",
        state: State = None,
        probes: ProbeSettings | None = None,
        seed: int = 0,
    ) -> None:
        check_streams(inputs, targets)
        stream = Stream(inputs, targets)
        try:
            policy = completed(policy)
        except ConfigError as error:
            raise ConfigError("policy" if error.name == "_target_" else error.name, error.rule) from error
        check_scheme(policy, scheme)
        first_state = None if state is None else detach(state)
        check_recurrent(model, stream.read(0, 2)[0], first_state)
        prober = Prober(ProbeSettings() if probes is None else probes, seed)
        if policy.probes:  # better said now than at its first update
            rule = f"must not exceed the stream's {stream.length} steps: a probe reads burn_in + window"
            require(prober.settings.steps <= stream.length, "probes", prober.settings.steps, rule)
            check_asked(prober.settings, model, loss, stream, policy, first_state)
        self._begin(model, loss, stream, policy, scheme, prober, first_state)

    @classmethod
    def over(
        cls,
        stream: Stream,
        model: nn.Module,
        loss: LossFunction,
        policy: Policy,
        *,
        scheme: str,
        prober: Prober,
        seed: Seed,
    ) -> Windows:
        """Windows for a Trainer: over a data set's stream, from a zero state, of parts that were checked together.

        Arguments:
            stream, model, loss, policy, scheme: see `Windows`.
            prober: makes the policy's probes.
            seed: called before anything draws.
        """
        windows = cls.__new__(cls)
        windows._begin(model, loss, stream, policy, scheme, prober, None, seed)
        return windows

    def _begin(
        self,
        model: nn.Module,
        loss: LossFunction,
        stream: Stream,
        policy: Policy,
        scheme: str,
        prober: Prober,
        first_state: State,
        seed: Seed = lambda purpose, step: None,  # noqa: ARG005  (a loop of your own seeds as it likes)
    ) -> None:
        self.model = model
        self.halves = halves(model)
        self.loss = loss
        self.stream = stream
        self.cursor = Cursor(scheme, policy, stream.length)
        self.prober = prober
        self.first_state = first_state
        self.probe_steps = 0
        self._seed = seed
        self._current: StreamWindow | None = None

    @property
    def step(self) -> int:
        """Steps of the stream whose loss was counted so far, over all passes."""
        return self.cursor.step

    @property
    def epoch(self) -> float:
        """Passes over the stream so far."""
        return self.step / self.stream.length

    @property
    def adaptive_epoch(self) -> float:
        """The same, with the steps that the policy's probes read."""
        return (self.step + self.probe_steps) / self.stream.length

    def __iter__(self) -> Iterator[StreamWindow]:
        """The windows to the end of the pass.

        Raises:
            RuntimeError: a window's `loss` was not called before the next window was asked for.
        """
        passes = self.cursor.epochs_done
        while self.cursor.epochs_done == passes:
            if self._current is None:  # else a window was broken out of before its loss was called
                self._current = self._next()
            window = self._current
            yield window
            if self._current is window:
                raise RuntimeError("window.loss() must be called in each window: it computes the state of the next")

    def _next(self) -> StreamWindow:
        state = self.cursor.state
        if self.cursor.position == 0:
            state = starting_state(self.model, self.stream.read(0, 1)[0], self.first_state)
        self._seed("policy", self.step)
        steps = self.cursor.next_window(self._probe)
        self._seed("dropout", self.step)
        return StreamWindow(self, steps, state)

    def _hand_over(self, window: StreamWindow, state: State) -> None:
        """Go on behind a window whose forward pass is done; nothing if that was done before."""
        if self._current is window:
            self._current = None
            self.cursor.advance(window.steps, state)

    def _probe(self, *, measured: bool = False, resampled: bool = False) -> list[BiasEstimate]:
        self.probe_steps += self.prober.steps
        found = self.prober.measure(
            self.model,
            self.loss,
            self.stream,
            "policy",
            self.step,
            measured=measured,
            resampled=resampled,
            state=self.first_state,
        )
        return [each.estimate for each in found if each.problem() is None]

    def _made_for(self) -> dict[str, Any]:
        return {
            "policy": kind_of(self.cursor.policy),
            "scheme": self.cursor.scheme,
            "streams": tuple(self.stream.inputs.shape[:2]),
        }

    def state_dict(self) -> dict[str, Any]:
        """Where it is, and its policy: with those of the model and the optimizer, all to continue exactly."""
        return {"made_for": self._made_for(), **self.saved()}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go back to where it was when its `state_dict` was taken.

        Raises:
            ConfigError: that was of another policy, scheme or stream.
        """
        found, own = saved.get("made_for"), self._made_for()
        require(found == own, "state_dict", found, f"must be of the same policy, scheme and streams: {own}")
        self.restore(saved)

    def saved(self) -> dict[str, Any]:
        """What `state_dict` has, but for what it was made for: a run's checkpoint says that already."""
        return {
            **self.cursor.saved(),
            "probe_steps": self.probe_steps,
            "policy": self.cursor.policy.state_dict(),
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Go back to where it was when that was `saved`, by windows of the same policy, scheme and stream."""
        self._current = None
        self.cursor.restore(saved)
        if self.cursor.state is not None:
            device = self.stream.inputs.device
            self.cursor.state = map_state(lambda part: part.to(device), self.cursor.state)
        self.probe_steps = saved["probe_steps"]
        self.cursor.policy.load_state_dict(saved["policy"])

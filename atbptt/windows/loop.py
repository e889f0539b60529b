"""The training loop: `Windows` moves over a stream, and each of its `StreamWindow`s is one update."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from atbptt.errors import ConfigError, require, require_whole
from atbptt.models import (
    TRIED_STEPS,
    LossFunction,
    Nested,
    State,
    check_recurrent,
    check_state,
    check_streams,
    detach,
    halves,
    kinds,
    ordered_as,
    output_of_step,
    starting_state,
    time_first,
    turned,
    turned_loss,
)
from atbptt.probes import BiasEstimate, ProbeSettings
from atbptt.truncation import AnyPolicy, Policy, completed
from atbptt.windows.cursor import Cursor
from atbptt.windows.prober import Prober, check_asked
from atbptt.windows.schemes import check_scheme
from atbptt.windows.stream_window import StreamWindow
from atbptt.windows.streams import Stream
from atbptt.windows.update import pass_over
from atbptt.windows.watch import Watch

# Called with a purpose and the step: `policy` before the policy sets K, `dropout` before a window runs.
Seed = Callable[[str, int], object]


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

    A `for` loop ends with the pass over the stream. After a `break`, the next one continues with the next window.

    Where some losses do not count, as those of padding, means are over those that do. A window in which none counts
    makes no update: it is passed over, and its state handed on.

    Arguments:
        model: (inputs, state) -> (outputs, state), time first; see `atbptt.models.Recurrent`.
        loss: (outputs, targets) -> losses (T, B), one a step and stream, not yet averaged; or the pair of them and
            `counted`, which must depend on the targets only.
        inputs: B streams side by side, (T, B, ...), on the model's device; `batchify` makes them of one sequence. As
            outputs and targets, a tensor, or a tuple, list or dict of tensors.
        targets: (T, B, ...).
        policy: sets K before each window. One that has changed in other `Windows` is refused, as its clock would begin
            anew: `feed` these their next streams instead.
        counted: which losses count, (T, B), as booleans or as weights from 0 on; all by default.
        resets: where a new sequence begins, (T, B) booleans: before these steps the state is the first one, and no
            gradient goes through it; by default only at the start.
        scheme: one of `SCHEMES`.
        phase: `random` draws the length of the first window of each pass, so that windows do not end at the same steps
            in every pass; or `fixed`.
        state: before the first step of every pass and of every probe; zero by default.
        probes: settings of the policy's probes, if it makes any.
        probe_streams: inputs and targets, and as above counted and resets, from which they are drawn; by default from
            the streams that are read.
        epoch_steps: steps by which the policy's schedule and `epoch` count; with many batches, those of all of them.
            T of these streams by default.
        seed: of the probes' and the phase's draws.
        batch_first: whether data, outputs and losses begin with (B, T) instead of (T, B), here and in `feed`; messages
            say (T, B).

    Raises:
        ConfigError: an argument breaks its rule, or the arguments do not fit together.
    """

    _batch_first = False
    _watch = Watch(None)
    _output: Nested | None = None  # see `output_of_step`
    _carried: State = None  # before the first step of the streams that are read, if they were fed with one
    _probed: Stream | None = None  # from which probes are drawn, if from other than is read

    def __init__(
        self,
        model: nn.Module,
        loss: LossFunction,
        inputs: Nested,
        targets: Nested,
        policy: AnyPolicy,
        *,
        counted: Tensor | None = None,
        resets: Tensor | None = None,
        scheme: str = "original-buffer",
        phase: str = "fixed",
        state: State = None,
        probes: ProbeSettings | None = None,
        probe_streams: Sequence[Nested] | None = None,
        epoch_steps: int | None = None,
        seed: int = 0,
        batch_first: bool = False,
    ) -> None:
        self._batch_first = batch_first
        if batch_first:
            model, loss = time_first(model), turned_loss(loss)
        stream = self._stream(inputs, targets, counted, resets)
        self._watch = Watch(policy)
        try:
            policy = completed(policy)
        except ConfigError as error:
            raise ConfigError("policy" if error.name == "_target_" else error.name, error.rule) from error
        check_scheme(policy, scheme, phase)
        first_state = None
        if state is not None:
            check_state(state, stream.batch)
            first_state = detach(state)
        check_recurrent(model, stream.read(0, TRIED_STEPS)[0], first_state)
        self._output = output_of_step(model, loss, *stream.read(0, TRIED_STEPS), first_state)
        stream = stream.counting(loss, self._output)
        require(stream.losses(0, stream.length) > 0, "counted", 0, "must count a loss, and counts none")
        probes = ProbeSettings() if probes is None else probes
        require(isinstance(probes, ProbeSettings), "probes", type(probes).__name__, "must be ProbeSettings")
        require_whole("seed", seed, 0)
        if epoch_steps is not None:
            require_whole("epoch_steps", epoch_steps, 1)
        probed = None
        if probe_streams is not None:
            probed = self._stream(*_batch(probe_streams, "probe_streams"))
            _require_alike(probed, stream, "those of training, but for (T, B)", "probe_streams: ")
            if first_state is not None:
                check_state(first_state, probed.batch)
            probed = probed.counting(loss, self._output)
        if policy.probes:  # before training rather than at its first update
            probes.check_stream((probed or stream).length)
            check_asked(probes, model, loss, probed or stream, policy, first_state)
        self._begin(model, loss, stream, policy, scheme, phase, Prober(probes, scheme, seed), first_state)
        self._probed = probed
        if epoch_steps is not None:
            self.cursor.epoch_steps = epoch_steps

    def _stream(
        self, inputs: Nested, targets: Nested, counted: Tensor | None = None, resets: Tensor | None = None
    ) -> Stream:
        parts = inputs, targets, counted, resets
        inputs, targets, counted, resets = map(turned, parts) if self._batch_first else parts
        check_streams(inputs, targets, counted, resets)
        return Stream(inputs, targets, counted=counted, resets=resets)

    @classmethod
    def over(
        cls,
        stream: Stream,
        model: nn.Module,
        loss: LossFunction,
        policy: Policy,
        *,
        scheme: str,
        phase: str,
        prober: Prober,
        seed: Seed,
    ) -> Windows:
        """Windows of parts that fit together, with a prober; `seed` is called before random numbers are drawn."""
        windows = cls.__new__(cls)
        windows._begin(model, loss, stream, policy, scheme, phase, prober, None, seed)
        return windows

    def _begin(
        self,
        model: nn.Module,
        loss: LossFunction,
        stream: Stream,
        policy: Policy,
        scheme: str,
        phase: str,
        prober: Prober,
        first_state: State,
        seed: Seed | None = None,
    ) -> None:
        self.model = model
        self.halves = halves(model)
        self.loss = loss
        self.stream = stream
        self.cursor = Cursor(scheme, policy, stream.length, prober.seed if phase == "random" else None)
        self.prober = prober
        self.first_state = first_state
        self.probe_steps = 0
        self.passed_over = 0  # windows in which no loss counts
        self._seed = seed
        self._current: StreamWindow | None = None

    def feed(
        self,
        inputs: Nested,
        targets: Nested,
        counted: Tensor | None = None,
        resets: Tensor | None = None,
        *,
        state: State = None,
    ) -> None:
        """Read other streams from the next window on; probes draw from them, too. For data that change between passes.

        Arguments:
            inputs, targets: of the types of those before; within a pass of their shapes, between two of any (T, B).
            counted: which of their losses count; all by default.
            resets: where new sequences begin; by default only at the start.
            state: before the first step of these streams, as where a rollout goes on with the episode of the one
                before; between two passes only. The first state by default, as it is wherever `resets` say.

        Raises:
            ConfigError: they are not, or the policy's probes do not fit in them.
        """
        stream = self._stream(inputs, targets, counted, resets).counting(self.loss, self._output)
        if self.cursor.policy.probes and self._probed is None:
            assert self.prober.settings is not None
            self.prober.settings.check_stream(stream.length)
            if stream.resets is not None:
                self.prober.settings.check_average()
        first = None
        if state is not None or stream.batch != self.stream.batch:  # first_state may be of other streams
            first = self._first_of(stream)
            check_state(first, stream.batch)
        if state is not None:
            require(not self._within, "state", "given", "must be fed between two passes: within one, the state goes on")
            check_state(state, stream.batch)
            found, own = kinds(state), kinds(first)
            require(found == own, "state", found, f"must be like the model's: {own}")
            state = ordered_as(first, detach(state))
        self.read(stream)
        self._carried = state

    @property
    def _within(self) -> bool:
        """Whether a pass has begun and not ended."""
        return self.cursor.position > 0 or self._current is not None

    def read(self, stream: Stream) -> None:
        """`feed` of a stream."""
        if self._within:
            _require_alike(stream, self.stream, "those before", axes=0)
        else:
            _require_alike(stream, self.stream, "those before, but for (T, B)")
        self.stream = stream
        self.cursor.length = stream.length

    def each(self, batches: Iterable[Sequence[Nested]]) -> Iterator[StreamWindow]:
        """The windows of one batch after another, as of a DataLoader; each is fed and read in a pass of its own.

        Arguments:
            batches: of the arguments of `feed`, two to four of them.

        Raises:
            RuntimeError: the last batch has not been read to its end, nor its pass been ended.
            ConfigError: as `feed`.
        """
        for batch in batches:
            if self._within:
                way = "for window in windows: ..., or windows.end_pass()"
                raise RuntimeError(f"the batch before must be read to its end, or its pass be ended: {way}")
            self.feed(*_batch(batch, "batches"))
            yield from self

    def end_pass(self) -> None:
        """End the pass where it is, as after a `break`: the next window is the first one of another pass."""
        if self._within:
            self._current = None
            self.cursor.end_pass()

    @property
    def step(self) -> int:
        """Steps of the streams behind it, over all passes."""
        return self.cursor.step

    @property
    def epoch(self) -> float:
        """Steps so far over `epoch_steps`: passes over the stream, if all are over the same."""
        return self.step / self.cursor.epoch_steps

    @property
    def adaptive_epoch(self) -> float:
        """`epoch`, counting the steps of the policy's probes too."""
        return (self.step + self.probe_steps) / self.cursor.epoch_steps

    def __iter__(self) -> Iterator[StreamWindow]:
        """The windows to the end of the pass.

        Raises:
            RuntimeError: the next window was requested before `loss` of this one was called.
        """
        passes = self.cursor.epochs_done
        while self.cursor.epochs_done == passes:
            if self._current is None:  # else a `for` loop was left before the window's loss was called
                self._current = self._next()
            window = self._current
            if not window.averaged:
                self._pass_over(window)
                continue
            yield window
            if self._current is window:
                raise RuntimeError("window.loss() must be called in each window: it computes the state of the next")

    def _next(self) -> StreamWindow:
        state = self.cursor.state
        if self.cursor.position == 0:
            state = self._first() if self._carried is None else self._carried
        if self._seed is not None:
            self._seed("policy", self.step)
        with self._watch.updating(self.cursor.policy):
            steps = self.cursor.next_window(self._probe)
        if self._seed is not None:
            self._seed("dropout", self.step)
        return StreamWindow(self, steps, state)

    def _pass_over(self, window: StreamWindow) -> None:
        self.passed_over += 1
        state = pass_over(self.halves, window._stream, window.steps, window._state, window._first())
        self._hand_over(window, state)

    def _first(self) -> State:
        """The state in which sequences begin."""
        return self._first_of(self.stream)

    def _first_of(self, stream: Stream) -> State:
        return starting_state(self.model, stream.read(0, 1)[0], self.first_state)

    def _hand_over(self, window: StreamWindow, state: State) -> None:
        if self._current is window:  # else its loss is called again
            self._current = None
            self.cursor.advance(window.steps, ordered_as(window._state, state))

    def _probe(self, *, measured: bool = False, resampled: bool = False, noise: bool = False) -> list[BiasEstimate]:
        self.probe_steps += self.prober.steps
        how: dict[str, Any] = {"measured": measured, "resampled": resampled, "noise": noise, "state": self.first_state}
        how["epoch_steps"] = self.cursor.epoch_steps
        found = self.prober.measure(self.model, self.loss, self._probed or self.stream, "policy", self.step, **how)
        return [each.estimate for each in found if each.problem() is None]

    def _made_for(self) -> dict[str, Any]:
        return {
            "policy": type(self.cursor.policy).__name__,
            "scheme": self.cursor.scheme,
            "streams": (self.stream.length, self.stream.batch),
            **({} if self.cursor.phase_seed is None else {"phase": "random"}),
        }

    def state_dict(self) -> dict[str, Any]:
        """Its position and policy: with those of model and optimizer, all that it takes to continue."""
        return {"made_for": self._made_for(), "epoch_steps": self.cursor.epoch_steps, **self.saved()}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go back to where it was when its `state_dict` was taken.

        Within a pass, that pass's streams must be fed before, and with the state that they were fed with, if any.

        Raises:
            ConfigError: it was taken with another policy, scheme, phase, or within a pass of streams of another shape.
        """
        require(isinstance(saved, dict), "state_dict", type(saved).__name__, "must be what state_dict() has returned")
        found, own = saved.get("made_for"), self._made_for()
        if saved.get("position") == 0 and isinstance(found, dict):
            found = found | {"streams": own["streams"]}
        require(found == own, "state_dict", found, f"must be of the same policy, scheme, phase and streams: {own}")
        self.restore(saved)
        # By default it is the length of the first streams, which may be others now; earlier versions did not store it.
        self.cursor.epoch_steps = saved.get("epoch_steps", self.cursor.epoch_steps)

    def saved(self) -> dict[str, Any]:
        """`state_dict` for a run's checkpoint, without `made_for`."""
        own = {"probe_steps": self.probe_steps, "passed_over": self.passed_over}
        return {**self.cursor.saved(), **own, "policy": self.cursor.policy.state_dict()}

    def restore(self, saved: dict[str, Any]) -> None:
        """Go back to where it was when `saved` was called, with the same policy, scheme and stream."""
        self._current = None
        self.cursor.restore(saved, self._first())
        require_whole("probe_steps", saved["probe_steps"], 0)
        self.probe_steps = saved["probe_steps"]
        self.passed_over = saved.get("passed_over", 0)  # earlier versions did not store it
        require_whole("passed_over", self.passed_over, 0)
        self.cursor.policy.load_state_dict(saved["policy"])
        require_whole("K", self.cursor.policy.K, 1)


def _require_alike(stream: Stream, other: Stream, what: str, of: str = "", *, axes: int = 2) -> None:
    """Raise a `ConfigError` unless the tensors of two streams are alike, but for so many axes."""
    for name in ("inputs", "targets"):
        found, own = (kinds(getattr(each, name), axes) for each in (stream, other))
        require(found == own, f"{of}{name}", found, f"must be like {what}: {own}")


def _batch(parts: Sequence[Nested], name: str) -> Sequence[Nested]:
    """The arguments of `feed`, or a `ConfigError`."""
    fits = isinstance(parts, tuple | list) and 2 <= len(parts) <= 4
    found = f"{type(parts).__name__} of {len(parts)}" if isinstance(parts, tuple | list) else type(parts).__name__
    require(fits, name, found, "must be (inputs, targets), (inputs, targets, counted) or with resets, too")
    return parts

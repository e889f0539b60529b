from atbptt.earlier import filled_in, later_arguments


def test_later_arguments_of_data_sets_are_those_by_which_they_were_made_before() -> None:
    for module in ("", "events."):
        assert later_arguments(f"atbptt.datasets.{module}Events", {}) == {"resets": False}
    assert later_arguments("atbptt.datasets.Arrays", {}) == {"ignored": None}
    assert later_arguments("atbptt.datasets.Text", {}) == {"unit": "word", "split": None, "resets": False}
    assert later_arguments("atbptt.datasets.Copy", {}) == {}


def test_stored_options_gain_what_their_version_did() -> None:
    adaptive = {"scheme": "tf", "truncation._target_": "atbptt.truncation.Adaptive", "truncation.delta": 0.5}
    filled = {"phase": "fixed", "probe": "default"}
    assert filled_in(adaptive) == {**adaptive, **filled, "truncation.as_published": True}
    variable = {"scheme": "tf", "truncation._target_": "atbptt.truncation.Variable"}
    assert filled_in(variable) == {**variable, **filled}
    measured = {**adaptive, "truncation.estimator": "measured"}  # of something else than now
    assert filled_in(measured) == {**measured, **filled}
    events = {"scheme": "tf", "dataset._target_": "atbptt.datasets.Events"}
    assert filled_in(events) == {**events, **filled, "dataset.resets": False}
    text = {"scheme": "tf", "dataset._target_": "atbptt.datasets.text.Text"}
    assert filled_in(text) == {**text, **filled, "dataset.unit": "word", "dataset.resets": False}
    decayed = {"scheme": "tf", "lr_decay": "inverse_sqrt"}
    its_class = {"lr_decay._target_": "atbptt.windows.InverseSqrtDecay", "lr_decay.warmup": 0.0}
    assert filled_in(decayed) == {**decayed, **filled, **its_class}
    mine = {"scheme": "tf", "phase": "fixed", "probe": "none", "lr_decay": "none", "lr_decay._target_": "mine.None"}
    assert filled_in(mine) == mine
    now = {**adaptive, "phase": "random", "probe": "none", "truncation.as_published": False}
    assert filled_in(now) == now
    assert filled_in({"lr": 1.0}) == {"lr": 1.0}  # of something else

from atbptt.earlier import filled_in


def test_stored_options_gain_what_their_version_did() -> None:
    adaptive = {"scheme": "tf", "truncation._target_": "atbptt.truncation.Adaptive", "truncation.delta": 0.5}
    assert filled_in(adaptive) == {**adaptive, "phase": "fixed", "truncation.as_published": True}
    variable = {"scheme": "tf", "truncation._target_": "atbptt.truncation.Variable"}
    assert filled_in(variable) == {**variable, "phase": "fixed"}
    measured = {**adaptive, "truncation.estimator": "measured"}  # of something else than now
    assert filled_in(measured) == {**measured, "phase": "fixed"}
    now = {**adaptive, "phase": "random", "truncation.as_published": False}
    assert filled_in(now) == now
    assert filled_in({"lr": 1.0}) == {"lr": 1.0}  # of something else

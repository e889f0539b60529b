import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from atbptt.datasets import SPLITS, Events
from atbptt.errors import ConfigError
from atbptt.models.networks import PointProcessNetwork, RecurrentNetwork
from atbptt.training.evaluation import evaluate

EVENTS = "1 2 3 1 1 2\n2 2 1\n3 1 2 1\n"
TIMES = "0.5 1 1.25 1.25 3 3.5\n0 0.1 7\n2.5 2.75 3 4e0\n"


def write(folder: Path, **changes: str | bytes | None) -> Path:
    """The files of all splits, `event_train="..."` and such instead of the usual text, None for no file."""
    for split in SPLITS:
        for kind, text in (("event", EVENTS), ("time", TIMES)):
            content = changes.get(f"{kind}_{split}", text)
            if content is not None:
                path = folder / f"{kind}-{split}.txt"
                path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def made(folder: Path, batch_size: int = 1, **options: Any) -> Events:
    return Events(str(folder), batch_size, **options)


def test_golden_inputs_and_targets(golden_point_process: dict[str, torch.Tensor], tmp_path: Path) -> None:
    files = {"event": "1 2 1 1 2\n2 2 1\n", "time": "0 0.5 0.75 2 2\n3 3.5 5\n"}
    folder = write(tmp_path, **{f"{kind}_{split}": text for kind, text in files.items() for split in SPLITS})
    inputs, targets = made(folder).train.read(0, 10)
    np.testing.assert_array_equal(inputs[:, 0], golden_point_process["events_example_x"])
    np.testing.assert_array_equal(targets[:, 0], golden_point_process["events_example_y"])


def test_golden_losses_and_error(golden_point_process: dict[str, torch.Tensor], tmp_path: Path) -> None:
    golden, task = golden_point_process, made(write(tmp_path))
    w = golden["w"].expand(*golden["output"].shape[:2], 1)
    outputs = torch.cat([golden["output"], w], dim=-1)
    measures = task.measures(outputs, golden["target"])
    for name in ("event_loss", "time_loss"):
        torch.testing.assert_close(measures[name].mean(dim=1), golden[name], rtol=1e-9, atol=0)
    torch.testing.assert_close(measures["event_error"].mean(), golden["zero_one"], rtol=1e-9, atol=0)
    whole = golden["event_loss"] + golden["time_loss"]
    torch.testing.assert_close(task.loss(outputs, golden["target"]).mean(dim=1), whole, rtol=1e-9, atol=0)


def test_sequences_of_unequal_length_follow_one_another_and_the_mark_tells_them_apart(tmp_path: Path) -> None:
    stream = made(write(tmp_path)).train
    inputs, targets = (part[:, 0].tolist() for part in stream.read(0, 99))
    assert [row[:3].index(1) + 1 for row in inputs] == [1, 2, 3, 1, 1, 2, 2, 3, 1, 2]
    assert [row[3] for row in inputs] == [1, 0, 0, 0, 0, 1, 0, 1, 0, 0]
    assert [row[4] for row in inputs] == pytest.approx([0, 0.5, 0.25, 0, 1.75, 0, 0.1, 0, 0.25, 0.25])
    assert [event + 1 for event, _ in targets] == [2, 3, 1, 1, 2, 2, 1, 1, 2, 1]
    assert [time for _, time in targets] == pytest.approx([0.5, 0.25, 0, 1.75, 0.5, 0.1, 6.9, 0.25, 0.25, 1])


def test_steps_are_cut_in_streams_and_what_is_dropped_is_noted(tmp_path: Path) -> None:
    task = made(write(tmp_path), batch_size=3)
    whole = made(tmp_path).train.inputs[:, 0]
    assert torch.equal(task.train.inputs, torch.stack([whole[:3], whole[3:6], whole[6:9]], dim=1))
    assert "train: 10 events to predict in 3 streams of 3 steps, the last 1 dropped" in task.notes


def test_sequences_begin_anew_if_asked_for(tmp_path: Path) -> None:
    for resets in (False, True):
        task = made(write(tmp_path), resets=resets)
        for split in SPLITS:
            stream = getattr(task, split)
            assert (stream.resets is None) == (not resets)
            assert not resets or torch.equal(stream.resets, stream.inputs[..., 1] == 1)


def test_sequences_with_nothing_to_predict_are_left_out(tmp_path: Path) -> None:
    folder = write(tmp_path, event_train="1\n1 2 1 1\n\n2 1\n\n\n", time_train="5\n1 2 3 4\n\n1 2\n")
    task = made(folder)
    assert [event + 1 for event in task.train.targets[:, 0, 0].tolist()] == [2, 1, 1, 1]
    assert "train: sequences of less than 2 events, left out: 2" in task.notes
    assert not any(note.startswith("valid: sequences") for note in task.notes)


def test_half_of_the_test_sequences_is_the_validation_split_where_there_is_none(tmp_path: Path) -> None:
    folder = write(tmp_path, event_test=EVENTS + "1 1\n", time_test=TIMES + "1 2\n")
    task = made(folder, valid=None)
    assert (task.train.length, task.valid.length, task.test.length) == (10, 7, 4)


@pytest.mark.parametrize("types", [1, 40])
def test_any_number_of_event_types_is_stored_in_three_numbers_and_trained(types: int, tmp_path: Path) -> None:
    rows = "\n".join(" ".join(str(1 + (7 * i + j) % types) for j in range(6)) for i in range(types))
    times = "1 2 3 4 5 6\n" * types
    files = {f"event_{s}": rows for s in SPLITS} | {f"time_{s}": times for s in SPLITS}
    task = made(write(tmp_path, **files))
    assert task.input_size == task.output_size == types + 2
    assert task.train.inputs.shape[-1] == 3
    inputs, targets = task.train.read(0, 4)
    assert inputs.shape == (4, 1, types + 2)
    for network in (PointProcessNetwork, RecurrentNetwork):
        model = network(types + 2, types + 2, hidden=4)
        outputs, _ = model(inputs, model.initial_state(1))
        task.loss(outputs, targets).mean().backward()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters())  # type: ignore[arg-type]


def test_event_types_that_training_lacks_count(tmp_path: Path) -> None:
    folder = write(tmp_path, event_test="1 2 5\n", time_test="1 2 3\n")
    assert made(folder).input_size == 7
    assert made(folder, event_types=9).input_size == 11


def test_metrics_are_those_it_names_and_sum_up(tmp_path: Path) -> None:
    task = made(write(tmp_path), batch_size=2)
    torch.manual_seed(0)
    model = PointProcessNetwork(5, 5, hidden=4, embedding=3)
    found = evaluate(model, task, task.valid)
    assert tuple(found) == task.metric_names
    assert found["nll"] == pytest.approx(found["event_loss"] + found["time_loss"])
    inputs, targets = task.valid.read(0, 99)
    outputs, _ = model(inputs, model.initial_state(2))
    assert found["nll"] == pytest.approx(task.loss(outputs, targets).mean().item(), rel=1e-6)
    wrong = outputs[..., :3].argmax(-1) != targets[..., 0]
    assert found["event_error"] == pytest.approx(wrong.double().mean().item())


def test_the_predicted_interval_is_the_mean_of_the_density(tmp_path: Path) -> None:
    """Rate 2 without growth: 1/2, but for what lies beyond the longest interval of training (6.9)."""
    task = made(write(tmp_path))
    outputs = torch.zeros(1, 1, 5)
    outputs[..., -2] = float(np.log(2))
    error = task.measures(outputs, torch.tensor([[[0.0, 3.0]]]))["squared_time_error"]
    assert error.item() == pytest.approx((3 - 0.5) ** 2, rel=1e-4)


def bad_event(word: str, shown: str | None = None) -> tuple[dict[str, Any], str]:
    rule = "events are whole numbers from 1 to 10000000"
    message = f"line 2 of event-train.txt has {shown or word} as event 2 after 2: {rule}"
    return {"event_train": f"1 2 3 1 1 2\n2 {word} 1\n3 1 2 1\n"}, message


def bad_time(word: str, rule: str) -> tuple[dict[str, Any], str]:
    message = f"line 1 of time-valid.txt has {word} as time 3 after 2: {rule}"
    return {"event_valid": "1 1 1\n", "time_valid": f"1 2 {word}\n"}, message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *(bad_event(word) for word in ("0", "1.0", "10000001", "\u0661")),
        bad_event("9" * 5000, "99999999999999999999..."),
        *(bad_time(word, "it is no number") for word in ("1_0", "noon", "\u0663")),
        *(bad_time(word, "times must be finite") for word in ("nan", "1e999")),
        bad_time("1.75", "times must not decrease"),
        bad_time("2e9", "intervals must not exceed 1000000000"),
        ({"event_train": "1 2\r1 1\n"}, "line 1 of event-train.txt has a carriage return within it: a line"),
        ({"event_train": b"1 2 1\n1 \xff\n"}, "line 2 of event-train.txt is not UTF-8: byte 0xff at position 3"),
        (
            {"time_test": TIMES.replace("0 0.1 7", "0 0.1")},
            "line 2 of event-test.txt has 3 events, and the line of time-test.txt 2 times",
        ),
        (
            {"time_test": TIMES + "1 2\n"},
            "line 4 of time-test.txt has no line beside it in event-test.txt, which ends after 3",
        ),
        (
            {"event_test": EVENTS + "1 2\n"},
            "line 4 of event-test.txt has no line beside it in time-test.txt, which ends after 3",
        ),
    ],
)
def test_what_is_wrong_is_reported_with_its_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match="^" + re.escape(f"path (={tmp_path}) cannot be read: {message}")):
        made(write(tmp_path, **changes))


@pytest.mark.parametrize(
    ("files", "options", "message"),
    [
        ({"event_valid": "", "time_valid": "\n\n"}, {}, "event-valid.txt) must hold a sequence of at least 2 events, "),
        ({"event_train": "1 2 1", "time_train": "1 1 1"}, {}, ") must have intervals greater than 0 in time-train.txt"),
        (
            {"time_valid": None},
            {},
            ") lacks time-valid.txt; it must hold event-train.txt, time-train.txt, event-valid.txt, ",
        ),
        ({}, {"batch_size": 0}, "batch_size (=0) must be at least 1"),
        ({}, {"batch_size": 6}, "batch_size (=6) is too large for the 10 steps of the train split: at least 2 steps "),
        ({}, {"event_types": 2}, "event_types (=2) must be at least the largest event of "),
        (
            {"event_test": "1 1 2 1\n", "time_test": "1 2 3 4\n"},
            {"valid": None},
            "valid (=null) takes half of the test sequences, and event-test.txt has only 1",
        ),
    ],
)
def test_data_that_does_not_fit_is_refused(
    tmp_path: Path, files: dict[str, str], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        made(write(tmp_path, **files), **options)


def test_book_order_is_read_whole(shared: Path) -> None:
    task = Events(str(shared / "data" / "book_order"), 64, train="1-train", valid=None, test="1-test")
    assert (task.train.length, task.valid.length, task.test.length) == (5184, 646, 646)
    assert task.input_size == 4
    assert task.notes[1] == "train: 331,800 events to predict in 64 streams of 5,184 steps, the last 24 dropped"

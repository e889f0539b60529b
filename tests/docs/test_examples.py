"""The programs of docs/examples/ print what their pages show, and do what these say."""

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import atbptt
from tests.docs.blocks import EXAMPLES, ROOT, Checkout, blocks_of

pytestmark = pytest.mark.filterwarnings("error")

Ran = Callable[[str], Any]


@pytest.fixture
def ran(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Ran:
    """Runs a page, compares what it prints with what it shows, but for the numbers, and returns its names."""

    def run(name: str) -> Any:
        page = f"{EXAMPLES}{name}.md"
        checkout = Checkout(tmp_path)
        checkout.run_page(page)
        (shown,) = (block.text for block in blocks_of(page) if block.language == "text")
        assert without_numbers(capsys.readouterr().out) == without_numbers(shown)
        return checkout.namespace

    return run


def without_numbers(text: str) -> list[list[str]]:
    return [re.sub(r"\d[\d.]*(e-\d+)?", "#", line).split() for line in text.splitlines()]


def test_every_example_has_a_test() -> None:
    pages = {path.stem for path in (ROOT / EXAMPLES).glob("*.md")}
    assert {f"test_{page}" for page in pages} <= globals().keys()


@pytest.mark.slow
def test_documents(ran: Ran) -> None:
    page = ran("documents")
    streams, documents = page["streams"], page["training"]
    assert int(streams["resets"].sum()) == len(documents)
    assert int(streams["counted"].sum()) == sum(len(document) + 1 for document in documents)
    ends = streams["targets"][:-1] == page["END"]
    inside = streams["counted"][1:]
    assert torch.equal((ends & streams["counted"][:-1])[inside], streams["resets"][1:][inside])
    assert page["bits"] < 0.6

    torch.testing.assert_close(page["alone"], page["together"])
    assert page["total_nats"](page["model"], page["shared"]) == pytest.approx(float(page["alone"].sum()))
    assert page["carried_on"] > 1.01 * page["alone"].sum()

    def gradient(parts: list[Any]) -> list[torch.Tensor]:
        page["model"].zero_grad()
        windows = atbptt.Windows(page["model"], atbptt.cross_entropy, policy=atbptt.Full(), **page["as_streams"](parts))
        for window in windows:
            (window.loss() * window.losses * len(parts)).backward()
        return [parameter.grad for parameter in page["model"].parameters()]

    some = page["held_out"][:6]
    of_each = [gradient([[document]]) for document in some]
    added = [sum(parts) for parts in zip(*of_each, strict=True)]
    torch.testing.assert_close(gradient(page["packed"](some, 2)), added, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_padded(ran: Ran) -> None:
    page = ran("padded")
    inputs, targets, last = page["collate"](
        [(torch.tensor([2, 5]), torch.tensor(2)), (torch.tensor([1]), torch.tensor(1))]
    )
    assert (inputs.tolist(), targets.tolist()) == ([[2, 5], [1, 0]], [[2, 2], [1, 1]])
    assert last.tolist() == [[False, True], [True, False]]
    (short, passed_over, _), (whole, none_passed_over, _), (adaptive, some, K) = page["results"].values()
    assert short < 0.5
    assert min(whole, adaptive) > 0.95
    assert passed_over > some > none_passed_over == 0
    assert K > 4


@pytest.mark.slow
def test_actor_critic(ran: Ran) -> None:
    page = ran("actor_critic")
    success = {name: [page["success"][name, seed] for seed in (0, 1)] for name in page["POLICIES"]}
    assert max(success["Fixed(K=4)"]) < 0.45
    assert min(success["Fixed(K=14)"] + success["Adaptive"]) > 0.9
    assert page["policy"].K > 7  # of the adaptive one, which comes last

    # A rollout: two episodes, in each of which one answer counts.
    streams, length = page["rollout"](page["Agent"](), page["Recall"]()), page["LENGTH"]
    inputs, targets, asked = streams["inputs"], streams["targets"], streams["counted"]
    assert asked.all(dim=1).nonzero().flatten().tolist() == [length - 1, 2 * length - 1]
    assert streams["resets"].all(dim=1).nonzero().flatten().tolist() == [length]
    cues = inputs[[0, length]].argmax(dim=-1)
    assert torch.equal(targets["rewards"][asked].view(2, -1), (targets["actions"][asked].view(2, -1) == cues).float())
    assert not targets["rewards"][~asked].any()
    assert not targets["advantages"].requires_grad


@pytest.mark.slow
def test_cells(ran: Ran) -> None:
    page = ran("cells")
    assert page["names"] == ("lower_hidden0", "lower_cell0", "upper0")
    assert page["total"] / len(page["inputs"]) < 1.2  # 2 log 4 = 2.77 without memory
    lower, _, upper = page["norms"]
    far = page["FAR"]
    assert all(upper[lag - 1] > 5 * lower[lag - 1] for lag in (1, 3, 6))
    assert abs(int(lower.argmax()) + 1 - far) <= 2  # the lag at which it is largest
    assert upper[far - 1] < 2 * lower[far - 1]
    assert max(lower[29], upper[29]) < lower[far - 1] / 10
    assert page["found"].K(0.5, "measured") < far <= page["found"].K(0.1, "measured") + 2

    # Windows of 14 steps go on counting where the one before ended.
    model, data = page["model"], (page["inputs"], page["targets"])
    means = []
    for policy in (atbptt.Fixed(K=14), atbptt.Full()):
        with torch.no_grad():
            windows = atbptt.Windows(model, page["loss"], *data, policy)
            means.append(sum(float(window.loss()) * window.losses for window in windows))
    assert means[0] == pytest.approx(means[1])


@pytest.mark.slow
def test_linear_recurrence(ran: Ran) -> None:
    page = ran("linear_recurrence")
    assert page["difference"] < 1e-12
    np.testing.assert_allclose(
        page["found"].phi, page["found"].phi[0] / page["by_hand"][0] * page["by_hand"], rtol=1e-9
    )
    assert all(later < before for before, later in pairwise(page["by_hand"] / page["slowest"]))
    assert page["total"] / 2000 < 0.2 * page["targets"].var()
    assert page["found"].K(0.1, "measured") < np.log(0.1) / page["lengths"].max().log()

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from atbptt.randomness import derive_seed, kept_generators, numpy_generator, seed_global, torch_generator

purposes = st.sampled_from(["copy train", "copy valid", "probe", "dropout"])
numbers = st.lists(st.integers(0, 2**40), max_size=3).map(tuple)


def test_a_seed_is_the_same_in_every_process_and_version() -> None:
    """The first 8 bytes of sha256(b"copy train:0") without the last bit."""
    assert derive_seed("copy train", 0) == 0x3675B54B10B97E80


@given(purposes, numbers, purposes, numbers)
def test_seeds_differ_unless_purpose_and_numbers_agree(
    purpose: str, ns: tuple[int, ...], other: str, ms: tuple[int, ...]
) -> None:
    assert (derive_seed(purpose, *ns) == derive_seed(other, *ms)) == ((purpose, ns) == (other, ms))


def test_the_border_between_numbers_counts_and_seeds_use_all_63_bits() -> None:
    seeds = [derive_seed("probe", *ns) for ns in [(1, 23), (12, 3), (123,), (3, 12), (1, 2, 3)]]
    assert len(set(seeds)) == len(seeds)
    union = 0
    for n in range(100):
        union |= derive_seed("probe", n)
    assert union == 2**63 - 1


def of_torch(*name: Any) -> list[float]:
    return torch.rand(3, generator=torch_generator(*name)).tolist()


def of_numpy(*name: Any) -> list[float]:
    return numpy_generator(*name).random(3).tolist()


def of_global(*name: Any) -> list[float]:
    seed_global(*name)
    return [torch.rand(1).item(), np.random.rand(), random.random()]  # noqa: NPY002


@pytest.mark.parametrize("draw", [of_torch, of_numpy, of_global])
def test_generators_repeat_and_differ_by_purpose_and_number(draw: Callable[..., list[float]]) -> None:
    names = [("probe", 1), ("probe", 2), ("dropout", 1), ("probe", 1, 1)]
    draws = [draw(*name) for name in names]
    assert [draw(*name) for name in names] == draws
    assert all(len(set(column)) == len(names) for column in zip(*draws, strict=True))


def test_the_global_generators_of_gpus_are_seeded_as_the_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    seed_global("dropout", 3)
    assert seeds == [derive_seed("dropout", 3)] == [torch.initial_seed()]


def test_generators_are_kept_whatever_draws_from_them() -> None:
    def drawn() -> list[float]:
        return [torch.rand(1).item(), random.random(), np.random.random()]  # noqa: NPY002

    seed_global("dropout", 1)
    expected = drawn()
    seed_global("dropout", 1)
    with kept_generators():
        drawn()
    assert drawn() == expected

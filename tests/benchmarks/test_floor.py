from __future__ import annotations

import torch

from benchmarks.floor import matrix_speed, probe_products, recurrent_products, state_products, training_products
from benchmarks.sizes import Size

ONE_HOT = Size(layers=2, hidden=3, batch=5, symbols=7)
TIED = Size(layers=1, hidden=3, batch=5, symbols=7, tied=True)


def test_the_products_of_a_step() -> None:
    # Four gates of 3 numbers, each from 3: 36 for a matrix.
    assert state_products(ONE_HOT) == 3 * 36  # own h of both layers, and the lower layer's h for the upper
    assert recurrent_products(ONE_HOT) == 3 * 36  # a one-hot input takes none
    assert state_products(TIED) == 36
    assert recurrent_products(TIED) == 36 + 36  # of the embedding's 3 numbers


def test_the_products_of_an_update() -> None:
    # Forward, inputs and weights: three times 5 streams of 9 steps of 72 and 5 decoded ones of 3 * 7.
    assert training_products(TIED, steps=9, losses=5) == 3 * 5 * (9 * 72 + 5 * 21)


def test_the_products_of_a_probe() -> None:
    # Forward over 8 steps; back from step 7 over 8 lags and from step 5 over 6; two decoded, forward and back.
    assert probe_products(ONE_HOT, [7, 5]) == 5 * (8 * 108 + 14 * 108 + 2 * 2 * 21)
    assert probe_products(TIED, [7]) == 5 * (8 * 72 + 8 * 36 + 2 * 21)


def test_a_matrix_speed_is_measured() -> None:
    assert matrix_speed(torch.device("cpu"), repeats=1) > 1e6

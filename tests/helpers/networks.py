"""The package's networks, small, and symbols and events for them to read."""

from typing import Any

import torch
from torch import Tensor, nn

from atbptt.models.networks import PointProcessNetwork, RecurrentNetwork

V, H, B = 5, 7, 3


def network(init: int = 0, **options: Any) -> RecurrentNetwork:
    torch.manual_seed(init)
    return RecurrentNetwork(V, V, **{"hidden": H, **options})


def symbols(steps: int) -> Tensor:
    return torch.randint(V, (steps, B), generator=torch.Generator().manual_seed(1))


def events(steps: int, types: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    event = nn.functional.one_hot(torch.randint(types, (steps, B), generator=generator), types)
    return torch.cat([event, torch.rand(steps, B, 2, generator=generator)], dim=-1)


def point_process(init: int = 0, types: int = 3, **options: Any) -> PointProcessNetwork:
    torch.manual_seed(init)
    return PointProcessNetwork(types + 2, types + 2, **{"hidden": H, "embedding": 4, **options})

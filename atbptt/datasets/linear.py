"""Linear: predict the next observation of a noisy linear dynamical system."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from atbptt.datasets.task import generated
from atbptt.errors import require
from atbptt.randomness import numpy_generator
from atbptt.system import require_memory
from atbptt.windows import Stream

FEATURES_SHOWN = 4  # the most features whose predictions are stored


@dataclass(eq=False)
class Linear:
    """z_{t+1} = A z_t + process noise, y_t = C z_t + observation noise; input y_t, target y_{t+1}.

    A is `radius` times a random rotation, so that memory decays by `radius` a step; all streams and splits share
    A and C. Without observation noise y has unit variance. The loss is the squared error, mean over the D features.
    """

    state_size: int  # dimension of z
    features: int  # D, dimension of y
    radius: float  # modulus of A's eigenvalues, at least 0 and below 1
    noise: float  # standard deviation of the observation noise
    train_steps: int  # stream length T of each split
    valid_steps: int
    test_steps: int
    batch_size: int  # streams B
    seed: int  # of the system and the noise

    def __post_init__(self) -> None:
        state_size, features, radius, noise = self.state_size, self.features, self.radius, self.noise
        require(state_size >= 1, "state_size", state_size, "must be at least 1")
        require(features >= 1, "features", features, "must be at least 1")
        require(0 <= radius < 1, "radius", radius, "must be at least 0 and below 1, or the system explodes")
        require(noise >= 0, "noise", noise, "must be at least 0")
        self.metric_names: tuple[str, ...] = ("loss",)
        self.input_size = self.output_size = features
        require_memory("state_size", state_size, 24 * state_size**2)
        require_memory("features", features, 16 * features * state_size, f"with state_size (={state_size})")
        system = numpy_generator("linear system", self.seed)
        A = radius * np.linalg.qr(system.normal(size=(state_size, state_size)))[0]
        C = system.normal(size=(features, state_size))
        C /= np.linalg.norm(C, axis=1, keepdims=True)
        make = partial(_stream, A, C, radius, noise)
        self.train, self.valid, self.test = generated("linear", self, make, kept=4 * features, making=8 * features)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).square().mean(dim=-1)

    def measures(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {"loss": self.loss(outputs, targets)}

    def metrics(self, means: dict[str, float]) -> dict[str, float]:
        return {"loss": means["loss"]}

    def predictions(self, outputs: Tensor, targets: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """`value`; of several features `value0`, `value1`, ..., at most `FEATURES_SHOWN`."""
        names = ["value"] if self.output_size == 1 else [f"value{i}" for i in range(self.output_size)]
        return {name: (outputs[..., i], targets[..., i]) for i, name in enumerate(names[:FEATURES_SHOWN])}


def _stream(
    A: np.ndarray, C: np.ndarray, radius: float, noise: float, steps: int, batch: int, generator: np.random.Generator
) -> Stream:
    scale = np.sqrt(1 - radius**2)  # A A' = radius^2 I: with this process noise z has covariance I at every step
    z = generator.normal(size=(batch, len(A)))
    observed = np.empty((steps + 1, batch, len(C)))
    for t in range(steps + 1):
        observed[t] = z @ C.T + noise * generator.normal(size=observed.shape[1:])
        z = z @ A.T + scale * generator.normal(size=z.shape)
    values = torch.as_tensor(observed, dtype=torch.float32)
    return Stream(values[:-1], values[1:])

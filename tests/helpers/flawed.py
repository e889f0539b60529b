"""Networks that see or remember more than they may, and some that only look like it."""

from typing import Any

import torch
from torch import Tensor, nn

from atbptt.models.networks import RecurrentNetwork


class Added(RecurrentNetwork):
    """Adds something of its own to the features (T, B, H)."""

    def __init__(self, input_size: int, output_size: int, hidden: int = 6) -> None:
        super().__init__(input_size, output_size, "gru", hidden=hidden, dropout=0.5)
        self.backward_rnn, self.attention = nn.GRU(hidden, hidden), nn.MultiheadAttention(hidden, 1, dropout=0.5)
        self.norm, self.gate = nn.BatchNorm1d(hidden), nn.Parameter(torch.zeros(1))
        self.memory: Any = 0.0
        self.register_buffer("kept", torch.zeros(()))

    def recur(self, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
        features, after = super().recur(inputs, state)
        return features + self.added(features, state), after

    def added(self, features: Tensor, state: Any) -> Any:
        raise NotImplementedError

    def attended(self, features: Tensor, causal: bool) -> Tensor:
        later = torch.ones(len(features), len(features), dtype=torch.bool, device=features.device).triu(1)
        found: Tensor = self.attention(features, features, features, attn_mask=later if causal else None)[0]
        return found


class Bidirectional(Added):
    def added(self, features: Tensor, state: Any) -> Any:  # noqa: ARG002
        return self.backward_rnn(features.flip(0))[0].flip(0)


class Attention(Added):
    def added(self, features: Tensor, state: Any) -> Any:  # noqa: ARG002
        return self.attended(features, causal=False)


class CausalAttention(Added):
    def added(self, features: Tensor, state: Any) -> Any:  # noqa: ARG002
        return self.attended(features, causal=True)


class GatedAttention(Added):
    """Its gate begins closed."""

    def added(self, features: Tensor, state: Any) -> Any:  # noqa: ARG002
        return self.gate * self.attended(features, causal=True)


class SingleGatedAttention(GatedAttention):
    """Runs in float32 only."""

    def added(self, features: Tensor, state: Any) -> Any:
        return super().added(features @ torch.eye(features.shape[-1]), state)


class RootedAttention(Added):
    """Moving its parameters makes some outputs NaN."""

    def __init__(self, input_size: int, output_size: int, hidden: int = 6) -> None:
        super().__init__(input_size, output_size, hidden)
        self.small = nn.Parameter(torch.full((hidden,), 0.01))

    def added(self, features: Tensor, state: Any) -> Any:  # noqa: ARG002
        return self.attended(features, causal=True) + self.small.sqrt()


class AttentionInTraining(CausalAttention):
    def added(self, features: Tensor, state: Any) -> Any:
        return super().added(features, state) if self.training else 0.0


class Attribute(Added):
    def added(self, features: Tensor, state: Any) -> Any:  # noqa: ARG002
        before, self.memory = self.memory, features[-1].detach()
        return before


class AttributeInTraining(Attribute):
    def added(self, features: Tensor, state: Any) -> Any:
        return super().added(features, state) if self.training else 0.0


class AttributeBegunAnew(Attribute):
    """Forgets at a zero state, as at the start of a pass."""

    def added(self, features: Tensor, state: Any) -> Any:
        self.memory = self.memory if state.any() else 0.0
        return super().added(features, state)


class Buffer(Added):
    def added(self, features: Tensor, state: Any) -> Any:  # noqa: ARG002
        before = self.kept.clone()
        self.kept.add_(features.detach().mean().float())
        return before


class NormOverSteps(Added):
    def added(self, features: Tensor, state: Any) -> Any:  # noqa: ARG002
        return self.norm(features.flatten(0, 1)).view_as(features)


class NormOverStreams(Added):
    def added(self, features: Tensor, state: Any) -> Any:  # noqa: ARG002
        return torch.stack([self.norm(step) for step in features])


class BatchFirst(Added):
    """Takes the streams for steps."""

    def added(self, features: Tensor, state: Any) -> Any:  # noqa: ARG002
        return features.cumsum(dim=1)


class LayerNorm(Added):
    def added(self, features: Tensor, state: Any) -> Any:  # noqa: ARG002
        return nn.functional.layer_norm(features, features.shape[-1:])


class OwnDropout(Added):
    """Draws in training mode, by a function."""

    def added(self, features: Tensor, state: Any) -> Any:  # noqa: ARG002
        return features * nn.functional.dropout(torch.ones_like(features), 0.5, self.training)


class OwnDropoutAndAttention(OwnDropout):
    def added(self, features: Tensor, state: Any) -> Any:
        return super().added(features, state) + self.attended(features, causal=True)


class Single(Added):
    """Computes in float32, whatever its parameters are."""

    def added(self, features: Tensor, state: Any) -> Any:  # noqa: ARG002
        return features.float().tanh()


class Weighted(Added):
    """Torch's older weight norm keeps a tensor that is computed, as an attribute."""

    def __init__(self, input_size: int, output_size: int, hidden: int = 6) -> None:
        super().__init__(input_size, output_size, hidden)
        self.decoder = nn.utils.weight_norm(self.decoder)

    def added(self, features: Tensor, state: Any) -> Any:  # noqa: ARG002
        return 0.0


class Uncopied(Added):
    def added(self, features: Tensor, state: Any) -> Any:  # noqa: ARG002
        return 0.0

    def __deepcopy__(self, memo: Any) -> Any:
        raise TypeError("cannot be copied")


class UncopiedAndBidirectional(Bidirectional, Uncopied):
    pass


class UncopiedAndAttribute(Attribute, Uncopied):
    pass


class Spectral(Added):
    """In training mode each call moves what it divides by, by more the larger it is."""

    def __init__(self, input_size: int, output_size: int, hidden: int = 6) -> None:
        super().__init__(input_size, output_size, hidden)
        wide = nn.utils.parametrizations.spectral_norm(nn.Linear(100, 100))
        self.layers = nn.Sequential(nn.Linear(hidden, 100), wide, nn.Linear(100, hidden))

    def added(self, features: Tensor, state: Any) -> Any:  # noqa: ARG002
        return self.layers(features)


class Coarse(Added):
    """Runs in bfloat16 only, and rounds by the length of what it reads, as a GPU may; its outputs are of float32."""

    def __init__(self, input_size: int, output_size: int, hidden: int = 6) -> None:
        super().__init__(input_size, output_size, hidden)
        self.to(torch.bfloat16)

    def added(self, features: Tensor, state: Any) -> Any:  # noqa: ARG002
        return features @ torch.eye(features.shape[-1], dtype=torch.bfloat16) * (1 + 0.01 * len(features))

    def decode(self, features: Tensor) -> Tensor:
        return super().decode(features).float()


class Counting(Added):
    """Counts its steps, in its state."""

    def initial_state(self, batch: int) -> Any:
        return (super().initial_state(batch), torch.zeros(batch, 1))

    def recur(self, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
        of_rnn, count = state
        steps = torch.arange(len(inputs))[:, None, None] + count
        features, of_rnn = RecurrentNetwork.recur(self, inputs, of_rnn)
        return features * (1 + steps).log(), (of_rnn, count + len(inputs))


LATER = "must give outputs that do not depend on later inputs: it sees later steps"
AGAIN = "must give the same outputs for the same inputs, .*: it keeps memory outside its state"
PIECES = "must give the same outputs in two pieces as in one: it keeps memory outside its state"
OTHERS = "must give outputs that depend on their own stream only: it depends on other columns of the batch"
TRAINING = r".*\(in training mode, without dropout\)"
FLAWED: dict[type[Added], str] = {
    Bidirectional: LATER,
    Attention: LATER,
    UncopiedAndBidirectional: LATER,
    CausalAttention: PIECES,
    GatedAttention: PIECES,
    SingleGatedAttention: PIECES,
    RootedAttention: PIECES,
    AttentionInTraining: PIECES + TRAINING,
    OwnDropoutAndAttention: PIECES,
    Attribute: AGAIN,
    AttributeInTraining: AGAIN + TRAINING,
    AttributeBegunAnew: AGAIN,
    UncopiedAndAttribute: AGAIN,
    Buffer: AGAIN,
    NormOverSteps: LATER + TRAINING,
    NormOverStreams: OTHERS + TRAINING,
    BatchFirst: OTHERS,
}
SOUND: tuple[type[Added], ...] = (*(LayerNorm, OwnDropout, Single, Weighted, Uncopied, Spectral, Counting, Coarse),)

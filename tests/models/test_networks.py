import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from atbptt.errors import ConfigError
from atbptt.models.networks import PointProcessNetwork, RecurrentNetwork
from atbptt.models.states import tensors
from tests.helpers.networks import B, H, V, events, network, point_process, symbols

KINDS = {"lstm": (nn.LSTM, None), "gru": (nn.GRU, None), "rnn_tanh": (nn.RNN, "tanh"), "rnn_relu": (nn.RNN, "relu")}
VARIANTS = [
    {"cell": cell, "layers": layers, "embedding": embedding}
    for cell in KINDS
    for layers, embedding in ((1, None), (3, 4))
]


@pytest.mark.parametrize("options", VARIANTS)
def test_outputs_and_states_have_their_shapes_and_the_state_continues_the_pass(options: dict[str, Any]) -> None:
    model, inputs = network(**options).double(), symbols(10)
    kind, nonlinearity = KINDS[options["cell"]]
    assert (type(model.rnn), getattr(model.rnn, "nonlinearity", None)) == (kind, nonlinearity)
    assert model.rnn.input_size == (options["embedding"] or V)
    assert len(model.state_names) == (2 if kind is nn.LSTM else 1)
    state = model.initial_state(B)
    assert all((part == 0).all() for part in tensors(state))
    whole, last = model(inputs, state)
    assert whole.shape == (10, B, V)
    for each in (state, last):
        assert [part.shape for part in tensors(each)] == [(options["layers"], B, H)] * len(model.state_names)
    first, middle = model(inputs[:4], state)
    second, end = model(inputs[4:], middle)
    torch.testing.assert_close(torch.cat([first, second]), whole, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(tensors(end), tensors(last), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("options", VARIANTS)
def test_matrices_start_uniform_in_the_published_bounds_and_biases_at_zero(options: dict[str, Any]) -> None:
    model = network(**options, **{"hidden": 60})
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            assert (parameter == 0).all(), name
            continue
        bound = math.sqrt(3 / max(parameter.shape))
        assert parameter.abs().max() <= bound, name
        if parameter.numel() > 1000:  # a uniform's extremes and standard deviation, bound / sqrt(3)
            assert min(-parameter.min(), parameter.max()) > 0.97 * bound, name
            assert parameter.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05), name


def test_a_tanh_network_computes_what_its_equation_says() -> None:
    model = RecurrentNetwork(2, 1, cell="rnn_tanh", hidden=1)
    with torch.no_grad():
        model.rnn.weight_ih_l0.copy_(torch.tensor([[0.5, -1.0]]))
        model.rnn.weight_hh_l0.fill_(2.0)
        model.decoder.weight.fill_(3.0)
        model.decoder.bias.fill_(0.25)
    outputs, state = model(torch.tensor([[1], [0]]), model.initial_state(1))
    h1 = math.tanh(-1.0)
    h2 = math.tanh(0.5 + 2 * h1)
    assert outputs.flatten().tolist() == pytest.approx([3 * h1 + 0.25, 3 * h2 + 0.25], rel=1e-6)
    assert state.item() == pytest.approx(h2, rel=1e-6)


def test_real_valued_inputs_are_fed_as_they_are() -> None:
    model, inputs = network(), symbols(6)
    one_hot = nn.functional.one_hot(inputs, V).float()
    state = model.initial_state(B)
    assert torch.equal(model(inputs, state)[0], model(one_hot, state)[0])


def test_dropout_reaches_the_inputs_of_every_layer_and_of_the_decoder() -> None:
    model = network(layers=3, dropout=0.25)
    assert model.rnn.dropout == 0.25  # between the layers
    seen: list[Tensor] = []
    model.dropout.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    model(symbols(200), model.initial_state(B))
    features, hidden = seen
    assert features.shape == (200, B, V)
    assert hidden.shape == (200, B, H)
    assert (features == 0).all(dim=-1).float().mean().item() == pytest.approx(0.25, abs=0.08)
    assert (hidden == 0).float().mean().item() == pytest.approx(0.25, abs=0.05)
    plain, state = network(layers=3), model.initial_state(B)
    assert torch.equal(model.eval()(symbols(6), state)[0], plain(symbols(6), state)[0])


def test_initial_parameters_depend_on_the_global_seed_alone() -> None:
    first, same, other = (
        torch.cat([p.flatten() for p in model.parameters()])
        for model in (network(3), network(3, dropout=0.5), network(4))
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cell": "ltsm"}, r"^cell \(=ltsm\) must be one of lstm, gru, rnn_tanh, rnn_relu; did you mean lstm\?$"),
        ({"layers": 0}, r"^layers \(=0\) must lie in 1..1000$"),
        ({"hidden": 0}, r"^hidden \(=0\) must be at least 1$"),
        ({"embedding": 0}, r"^embedding \(=0\) must be at least 1, or null$"),
        ({"tied": True}, rf"^embedding \(=null\) must be hidden \(={H}\): tied shares the embedding's matrix"),
        ({"tied": True, "embedding": 4}, rf"^embedding \(=4\) must be hidden \(={H}\): tied shares"),
        (
            {"tied": True, "embedding": H, "input_size": 4},
            r"^tied \(=true\) needs as many inputs as outputs, and .* has 4 and 5$",
        ),
        *(({"dropout": p}, rf"^dropout \(={p}\) must be at least 0 and below 1$") for p in (-0.1, 1.0, math.nan)),
    ],
)
def test_bad_arguments_are_refused_by_name_value_and_rule(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RecurrentNetwork(**{"input_size": V, "output_size": V, "hidden": H} | options)


def test_a_tied_decoder_has_the_embeddings_matrix_for_good() -> None:
    model = network(embedding=H, tied=True)
    assert model.decoder.weight is model.embedding.weight
    assert len(list(model.parameters())) == len(list(network(embedding=H).parameters())) - 1
    loss = model(symbols(6), model.initial_state(B))[0].square().mean()
    torch.optim.SGD(model.parameters(), lr=0.1).step(lambda: [loss.backward(), loss][1])
    assert torch.equal(model.decoder.weight, model.embedding.weight)
    other = network(1, embedding=H, tied=True)
    other.load_state_dict(model.state_dict())
    assert other.decoder.weight is other.embedding.weight
    assert torch.equal(other.decoder.weight, model.decoder.weight)


@pytest.mark.parametrize("cell", KINDS)
def test_a_point_process_network_has_logits_a_log_rate_and_one_growth(cell: str) -> None:
    model = point_process(cell=cell)
    outputs, state = model(events(6), model.initial_state(B))
    assert outputs.shape == (6, B, 5)
    assert (outputs[..., -1] == model.growth).all()
    assert outputs[..., :-1].flatten(0, 1).std(dim=0).min() > 0
    assert model.state_names == (("hidden", "cell") if cell == "lstm" else ("hidden",))
    outputs.sum().backward()
    assert model.growth.grad.item() == 6 * B
    assert tensors(state)[0].shape == (2, B, H)


def test_the_mark_and_the_interval_are_fed_beside_the_embedding() -> None:
    """Also with dropout, which is on the embedding alone."""
    model, inputs, seen = point_process(dropout=0.5).train(), events(50), []
    model.rnn.register_forward_pre_hook(lambda _module, given: seen.append(given[0]))
    model(inputs, model.initial_state(B))
    assert torch.equal(seen[0][..., 4:], inputs[..., 3:])
    assert (seen[0][..., :4] == 0).float().mean().item() == pytest.approx(0.5, abs=0.08)


def test_growth_starts_as_a_matrix_of_one_number() -> None:
    starts = torch.cat([point_process(init).growth.detach() for init in range(200)])
    bound = math.sqrt(3)
    assert starts.abs().max() <= bound
    assert min(-starts.min(), starts.max()) > 0.9 * bound


@pytest.mark.parametrize("sizes", [(5, 4), (2, 2)])
def test_a_point_process_network_refuses_what_is_no_event_data(sizes: tuple[int, int]) -> None:
    rule = r"^_target_ \(=PointProcessNetwork\) reads event data \(T, B, E \+ 2\), of dataset=book_order or "
    with pytest.raises(ConfigError, match=rule):
        PointProcessNetwork(*sizes)
    with pytest.raises(ConfigError, match=rule):
        point_process()(symbols(3), point_process().initial_state(B))

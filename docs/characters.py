# A language model of a text's characters that finds out how far to backpropagate: python characters.py TEXT
import sys
from pathlib import Path

from torch import nn, optim, tensor

from atbptt import Adaptive, ProbeSettings, Windows, batchify, cross_entropy, probe


class Characters(nn.ModuleDict):
    def forward(self, inputs, state):  # symbols (T, B), time first, to logits (T, B, V) and the state after them
        hidden, state = self["rnn"](self["embedding"](inputs), state)
        return self["decoder"](hidden), state


text = Path(sys.argv[1]).read_text("utf-8", "replace") if len(sys.argv) == 2 and Path(sys.argv[1]).is_file() else ""
if len(text) < 5_000:
    sys.exit("error: characters.py takes one argument, a text file of at least 5,000 characters")
alphabet, symbols = tensor([ord(character) for character in text]).unique(return_inverse=True)
V, inputs, targets = len(alphabet), batchify(symbols[:-1], 16), batchify(symbols[1:], 16)  # 16 streams, (T, 16)
model = Characters({"embedding": nn.Embedding(V, 64), "rnn": nn.LSTM(64, 128), "decoder": nn.Linear(128, V)})
optimizer = optim.Adam(model.parameters(), lr=0.003)
policy = Adaptive(delta=0.3, K_init=10, K_min=2, K_max=80, update_every=0.5, estimator="measured")
windows = Windows(model, cross_entropy, inputs, targets, policy, probes=ProbeSettings(window=80, tau=60))
for epoch in range(1, 6):
    nats = 0.0
    for window in windows:
        optimizer.zero_grad()
        window.loss().backward()
        optimizer.step()
        nats += window.losses * float(window.mean_loss)
    print(f"epoch {epoch}: {nats / len(inputs) / 0.6931:.3f} bits per character, K = {window.K}", flush=True)
symbol, state = symbols[:1, None], None
for _ in range(300):
    logits, state = model(symbol, state)
    symbol = logits[0].softmax(dim=-1).multinomial(1)
    print(end=chr(alphabet[symbol]))
found = probe(model, cross_entropy, inputs[:100], targets[:100], burn_in=20)
print("\nK with a bias of at most 0.9, 0.5, 0.1:", *(found.K(delta, "measured") for delta in (0.9, 0.5, 0.1)))

"""What torch trains, once more: the sources' networks in plain torch, with the order of rows that a seed gives bb.

First weights are those after `torch.manual_seed(seed)`, and each epoch is a `randperm` of a generator with that seed,
so that predictions can be held against bb's one by one. None imports bb.
"""

import math
from itertools import product

import numpy as np
import torch
from torch.nn import functional as F


def batches(n, size, seed):
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(n, generator=generator).split(size)


def answers(network, x):
    network.eval()
    with torch.no_grad():
        return np.concatenate([network(torch.from_numpy(part)).numpy() for part in np.array_split(x, min(16, len(x)))])


def linear(x, y, x_test, *, steps, batch, lr, seed, decay=1e-2):
    """biobench: LayerNorm and Linear, AdamW with no decay of vectors, learning rates set after each step. Logits."""
    torch.manual_seed(seed)
    layer = torch.nn.Linear(x.shape[1], int(y.max()) + 1)
    network = torch.nn.Sequential(torch.nn.LayerNorm(x.shape[1]), layer)
    matrices = [p for p in network.parameters() if p.ndim > 1]
    vectors = [p for p in network.parameters() if p.ndim == 1]
    groups = [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0}]
    optimiser = torch.optim.AdamW(groups, lr)
    rows, classes, order = torch.from_numpy(x), torch.from_numpy(y), batches(len(x), batch, seed)
    for step in range(1, steps + 1):
        chosen = next(order)
        F.cross_entropy(network(rows[chosen]), classes[chosen]).backward()
        optimiser.step()
        for group in optimiser.param_groups:
            group["lr"] = lr / 100 + 0.5 * (lr - lr / 100) * (1 + math.cos(step / steps * math.pi))
        optimiser.zero_grad()
    return answers(network, x_test)


def two_layers(x, y, x_test, *, lr, batch, seed, epochs=None, steps=None):
    """FishNet and AwA2: StepLR(20, 0.5) stepped after each epoch, or after each batch where steps are given. Logits."""
    torch.manual_seed(seed)
    layers = torch.nn.Linear(x.shape[1], 512), torch.nn.Dropout(0.5), torch.nn.Linear(512, y.shape[1])
    network = torch.nn.Sequential(*layers)
    optimiser = torch.optim.Adam(network.parameters(), lr=lr)
    scheduler = torch.optim.lr_scheduler.StepLR(optimiser, step_size=20, gamma=0.5)
    loss = torch.nn.BCEWithLogitsLoss()
    rows, targets, order = torch.from_numpy(x), torch.from_numpy(y).float(), batches(len(x), batch, seed)
    epoch = math.ceil(len(x) / batch)
    for done in range(1, (steps or epochs * epoch) + 1):
        chosen = next(order)
        optimiser.zero_grad()
        loss(network(rows[chosen]), targets[chosen]).backward()
        optimiser.step()
        if steps or done % epoch == 0:
            scheduler.step()
    return answers(network, x_test)


class AIM(torch.nn.Module):
    def __init__(self, d, k, heads):
        super().__init__()
        self.heads = heads
        self.key, self.value = torch.nn.Linear(d, d, bias=False), torch.nn.Linear(d, d, bias=False)
        self.query = torch.nn.Parameter(torch.randn(1, 1, d) * 0.02)
        self.linear = torch.nn.Linear(d, k, bias=False)
        self.norm = torch.nn.BatchNorm1d(d, affine=False, eps=1e-6)

    def forward(self, x):
        b, _, d = x.shape
        x = self.norm(x.transpose(1, 2)).transpose(1, 2)
        split = lambda t: t.reshape(b, -1, self.heads, d // self.heads).transpose(1, 2)  # noqa: E731
        q, k, v = split(self.query.expand(b, -1, -1)), split(self.key(x)), split(self.value(x))
        attended = F.scaled_dot_product_attention(q, k, v)
        return self.linear(attended.transpose(1, 2).reshape(b, 1, d).mean(dim=1))


def attention(x, y, x_test, *, heads, epochs, batch, lr, decay, seed):
    """AIM's head, AdamW along half a cosine to 0. Logits."""
    torch.manual_seed(seed)
    network = AIM(x.shape[2], len(np.unique(y)), heads)
    optimiser = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=decay)
    rows, classes, order = torch.from_numpy(x), torch.from_numpy(y), batches(len(x), batch, seed)
    steps = epochs * math.ceil(len(x) / batch)
    for done in range(steps):
        chosen = next(order)
        for group in optimiser.param_groups:
            group["lr"] = 0.5 * lr * (1 + math.cos(math.pi * done / steps))
        optimiser.zero_grad()
        F.cross_entropy(network(rows[chosen]), classes[chosen]).backward()
        optimiser.step()
    network.eval()
    network.norm.running_mean = rows.mean(dim=(0, 1))  # of all rows, where AIM's are running averages
    network.norm.running_var = rows.var(dim=(0, 1), correction=0)
    return answers(network, x_test)


def chosen_attention(x, y, x_test, *, heads, epochs, batch, seed):
    """The same with the learning rate and decay that have the most of a held-out tenth right. Logits, and the two."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed)).numpy()
    tested, rest = np.sort(order[: len(x) // 10]), np.sort(order[len(x) // 10 :])
    words, right = {"heads": heads, "epochs": epochs, "batch": batch, "seed": seed}, {}
    for pair in product((1e-4, 3e-4, 1e-3, 3e-3), (0.0, 1e-2)):
        logits = attention(x[rest], y[rest], x[tested], lr=pair[0], decay=pair[1], **words)
        right[pair] = (logits.argmax(axis=1) == y[tested]).sum()
    lr, decay = max(right, key=right.get)
    return attention(x, y, x_test, lr=lr, decay=decay, **words), (lr, decay)


# By protocol: features, labels and sides, and a seed; predictions of the test rows.
TRAINED = {
    "biobench-linear": lambda x, y, x_test, seed: linear(
        x, y, x_test, steps=10_000, batch=2048, lr=3e-4, seed=seed
    ).argmax(axis=1),
    "biobench-fishnet": lambda x, y, x_test, seed: (
        two_layers(x, y, x_test, lr=3e-4, batch=1024, steps=30_000, seed=seed) > 0.5
    ),
    "bioclip2-fishnet": lambda x, y, x_test, seed: (
        two_layers(x, y, x_test, lr=1e-4, batch=256, epochs=50, seed=seed) > 0.5
    ),
    "bioclip2-awa2": lambda x, y, x_test, seed: (
        two_layers(x, y, x_test, lr=1e-5, batch=256, epochs=50, seed=seed) > 0.5
    ),
    "aim-attentive": lambda x, y, x_test, seed: chosen_attention(
        x, y, x_test, heads=12, epochs=20, batch=256, seed=seed
    )[0].argmax(axis=1),
}

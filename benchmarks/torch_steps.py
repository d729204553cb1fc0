"""Seconds of a training step of CrevNet and ST-ResNet written plainly in PyTorch, to compare ``htsr bench`` with.

    python benchmarks/torch_steps.py crevnet     # in an environment with torch

Networks of the published sizes, random frames, Adam, one thread; nothing of htsr is imported.
"""

import argparse
import time

import torch
from torch import nn
from torch.nn import functional


class Unit(nn.Module):
    """A residual unit of ST-ResNet."""

    def __init__(self, filters: int):
        super().__init__()
        self.first, self.second = (nn.Conv2d(filters, filters, 3, padding=1) for _ in range(2))

    def forward(self, x):
        return x + self.second(functional.relu(self.first(functional.relu(x))))


class STResNet(nn.Module):
    """Three branches of twelve units, and weights that add them."""

    inputs = ((4, 6, 32, 32), (4, 2, 32, 32), (4, 2, 32, 32))

    def __init__(self):
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(nn.Conv2d(shape[1], 64, 3, padding=1), *(Unit(64) for _ in range(12)), nn.ReLU())
            for shape in self.inputs
        )
        self.last = nn.ModuleList(nn.Conv2d(64, 2, 3, padding=1) for _ in self.inputs)
        self.weights = nn.Parameter(torch.rand(3, 2, 32, 32))
        self.xs, self.y = [torch.rand(shape) for shape in self.inputs], torch.rand(4, 2, 32, 32)

    def loss(self):
        parts = zip(self.weights, self.branches, self.last, self.xs, strict=True)
        return functional.mse_loss(torch.tanh(sum(w * last(branch(x)) for w, branch, last, x in parts)), self.y)


def deeper(x):
    """Pixels of 2x2 to channels, of clips ``(batch, channel, time, height, width)``."""
    batch, channels, frames, height, width = x.shape
    x = x.reshape(batch, channels, frames, height // 2, 2, width // 2, 2).permute(0, 4, 6, 1, 2, 3, 5)
    return x.reshape(batch, 4 * channels, frames, height // 2, width // 2)


def shallower(x):
    """The way back from ``deeper``."""
    batch, channels, frames, height, width = x.shape
    x = x.reshape(batch, 2, 2, channels // 4, frames, height, width).permute(0, 3, 4, 5, 1, 6, 2)
    return x.reshape(batch, channels // 4, frames, 2 * height, 2 * width)


class Bottleneck(nn.Module):
    """What a block of CrevNet's autoencoder adds to the other half."""

    def __init__(self, inputs: int, filters: int, stride: int, first: bool):
        super().__init__()
        before = () if first else (nn.BatchNorm3d(inputs), nn.ReLU())
        narrow, conv = filters // 2, {"padding": 1, "bias": False}
        self.stride = stride
        self.layers = nn.Sequential(
            *before, nn.Conv3d(inputs, narrow, 3, (1, stride, stride), **conv),
            nn.BatchNorm3d(narrow), nn.ReLU(), nn.Conv3d(narrow, narrow, 3, **conv),
            nn.BatchNorm3d(narrow), nn.ReLU(), nn.Conv3d(narrow, filters, 3, **conv),
        )  # fmt: skip

    def forward(self, x):
        return self.layers(x)


class Predictor(nn.Module):
    """A layer of CrevNet's predictor."""

    def __init__(self, filters: int):
        super().__init__()
        self.gates, self.memory_gates = (nn.Conv3d(3 * filters, 3 * filters, 3, padding=1) for _ in range(2))
        self.output, self.join = nn.Conv3d(4 * filters, filters, 3, padding=1), nn.Conv3d(2 * filters, filters, 1)
        self.attention = nn.Conv3d(filters, filters, 1)

    def forward(self, x, hidden, cell, memory):
        f, i, g = self.gates(torch.cat([x, hidden, cell], 1)).chunk(3, 1)
        cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
        f, i, g = self.memory_gates(torch.cat([x, memory, cell], 1)).chunk(3, 1)
        memory = f.sigmoid() * memory + i.sigmoid() * g.tanh()
        output = self.output(torch.cat([x, hidden, cell, memory], 1)).sigmoid()
        hidden = output * self.join(torch.cat([cell, memory], 1)).tanh()
        return self.attention(hidden).sigmoid(), hidden, cell, memory


class CrevNet(nn.Module):
    """The form for Moving MNIST, windows of three of eighteen frames."""

    def __init__(self):
        super().__init__()
        self.blocks, inputs = nn.ModuleList(), 2
        for stage, count in enumerate((4, 5, 3)):
            for i in range(count):
                stride, filters = 1 + (stage > 0 and i == 0), 2 * 4**stage
                self.blocks.append(Bottleneck(inputs, filters, stride, stage == i == 0))
                inputs = filters
        self.predictor = nn.ModuleList(Predictor(32) for _ in range(8))
        self.clip = torch.rand(4, 1, 18, 64, 64)

    def encode(self, x):
        first, second = deeper(x).chunk(2, 1)
        for block in self.blocks:
            added = block(second)
            if block.stride > 1:
                first, second = deeper(first), deeper(second)
            first, second = second, added + first
        return first, second

    def decode(self, first, second):
        for block in reversed(self.blocks):
            if block.stride > 1:
                first_below = shallower(first)
                first, second = shallower(second - block(first_below)), first_below
            else:
                first, second = second - block(first), first
        return shallower(torch.cat([first, second], 1))

    def loss(self):
        states = [[torch.zeros(4, 32, 3, 8, 8)] * 2 for _ in self.predictor]
        memory, loss = states[0][0], 0.0
        for t in range(self.clip.shape[2] - 3):
            first, second = self.encode(self.clip[:, :, t : t + 3])
            for state, layer in zip(states, self.predictor, strict=True):
                gate, *state[:], memory = layer(first, *state, memory)
                first, second = (1.0 - gate) * second + gate * state[0], first
            loss += functional.mse_loss(self.decode(first, second), self.clip[:, :, t + 1 : t + 4])
        return loss


def main():
    """Print the processor-seconds of the quickest step and of the median one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=("crevnet", "st_resnet"))
    parser.add_argument("--steps", type=int, default=10)
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = {"crevnet": CrevNet, "st_resnet": STResNet}[args.model]()
    optimizer, seconds = torch.optim.Adam(model.parameters(), 1e-3), []
    for _ in range(args.steps + 2):
        begin = time.process_time()
        optimizer.zero_grad()
        model.loss().backward()
        optimizer.step()
        seconds.append(time.process_time() - begin)
    seconds = sorted(seconds[2:])
    parameters = sum(weight.numel() for weight in model.parameters())
    print(f"{args.model}: {parameters} parameters, {seconds[0]:.2f} s, median {seconds[len(seconds) // 2]:.2f} s")


if __name__ == "__main__":
    main()

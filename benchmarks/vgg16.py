"""Trains the VGG-16 of ``cifar10.py`` from random weights: a network with room to be pruned.

    python benchmarks/vgg16.py --epochs 10                         # half an hour on two cores

The model goes to ``build/benchmarks/vgg16.onnx`` and takes 59 MB; what it reaches goes to ``results/cifar10``. It is
trained as such networks are: SGD with momentum and weight decay, one cosine, images shifted and mirrored.
"""

import argparse
import time

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name the whole field uses
from cifar10 import FILES, PREPROCESSING, images
from common import machine, save
from sized import build_vgg16

from calibration.data import Dataset, load_data
from passes.batches import Batches
from toolchain import save as save_model
from toolchain.augmentation import Augmentation
from toolchain.graph import load_graph
from toolchain.module import OnnxModule

MOMENTUM, WEIGHT_DECAY, PEAK_RATE, BATCH = 0.9, 5e-4, 0.1, 128
VARIED = Augmentation(shift=4, flip=True)
REPORT_EVERY = 50  # steps


def train(module: OnnxModule, data: Dataset, epochs: int, seed: int) -> None:
    """Train in place, on the device that the module is on."""
    steps = epochs * (len(data) // BATCH)
    optimizer = torch.optim.SGD(module.parameters(), PEAK_RATE, MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=steps, pct_start=0.1)
    batches, device, started = (
        Batches(data, BATCH, VARIED, np.random.default_rng(seed)),
        module.device,
        time.monotonic(),
    )
    module.train()
    for step in range(steps):
        batch = next(batches)
        with torch.autocast(device.type, torch.bfloat16):
            (logits,) = module(batch.feeds).values()
        loss = F.cross_entropy(logits.float(), torch.from_numpy(batch.labels).to(device, torch.int64))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if (step + 1) % REPORT_EVERY == 0 or step + 1 == steps:
            left = (time.monotonic() - started) / (step + 1) * (steps - step - 1)
            print(f"step {step + 1:,} of {steps:,}, {left:.0f} s left, loss {loss.item():.3f}", flush=True)
    module.eval()


@torch.no_grad()
def accuracy(module: OnnxModule, data: Dataset) -> float:
    """Return the part of the images that is told right."""
    hits = 0
    for batch in data.batches(500):
        (logits,) = module(batch.feeds).values()
        hits += int((logits.argmax(1).cpu().numpy() == batch.labels).sum())
    return hits / len(data)


def main() -> None:
    """Train, save and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    FILES.mkdir(parents=True, exist_ok=True)
    draft = FILES / "vgg16.draft.onnx"
    build_vgg16(draft)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module = OnnxModule(load_graph(draft)).to(device)
    training, test = (load_data(str(folder), module.graph, PREPROCESSING).train for folder in images())
    started = time.monotonic()
    train(module, training, arguments.epochs, arguments.seed)
    seconds = time.monotonic() - started
    reached = accuracy(module, test)
    module.move_to(torch.device("cpu"))
    save_model(module, FILES / "vgg16.onnx")
    draft.unlink()
    settings = {"epochs": arguments.epochs, "seed": arguments.seed, "device": str(device)}
    save("cifar10/vgg16", {**settings, "seconds": seconds, **machine(), "accuracy": reached})
    print(f"{FILES.name}/vgg16.onnx: {100 * reached:.2f} % of {len(test):,} test images")


if __name__ == "__main__":
    main()

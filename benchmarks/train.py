"""Speed of pretraining: forward and backward of the joint loss, beside its matrix products alone.

The ceiling is the time of the products of forward and backward (a backward is two products of the same
shapes), each at its own shape and dtype on resident random data. Run `python -m benchmarks.train`.
"""

from argparse import Namespace
from typing import Any

import torch
import torch.nn.functional as F
from benchmarks.common import arguments, machine, paired, ratio, report

from fungi_audio.engine.encode import resolve_precision
from fungi_audio.models.blocks import HEAD_WIDTH
from fungi_audio.models.ssast.masking import masks
from fungi_audio.models.ssast.network import PATCHES, SPECIAL, WIDTHS
from fungi_audio.models.ssast.pretext import Pretext, new_pretext


class Products:
    """The matrix products of one forward and backward pass of `batch` masked inputs.

    Args:
        inputs: masked inputs of a step (clips times objectives).
    """

    def __init__(self, model: Pretext, inputs: int, dtype: torch.dtype, device: torch.device) -> None:
        network = model.v
        width, tokens = network.width, SPECIAL + network.grid.mel * network.grid.time
        self.blocks, self.inputs = len(network.blocks), inputs
        options: Any = {"dtype": dtype, "device": device}
        shapes = [(3 * width, width), (width, width), (4 * width, width), (width, 4 * width)]
        self.maps = [
            (torch.randn(inputs * tokens, size, **options), torch.randn(out, size, **options)) for out, size in shapes
        ]
        self.outputs = [torch.randn(inputs * tokens, out, **options) for out, _ in shapes]
        self.heads = torch.randn(inputs * width // HEAD_WIDTH, tokens, HEAD_WIDTH, **options)
        self.weights = torch.randn(inputs * width // HEAD_WIDTH, tokens, tokens, **options)
        self.flops = 3 * self.blocks * (2 * inputs * tokens * 12 * width**2 + 4 * inputs * tokens**2 * width)

    def __call__(self) -> None:
        for _ in range(self.blocks):
            for (x, weight), gradient in zip(self.maps, self.outputs, strict=True):
                F.linear(x, weight)
                gradient @ weight
                gradient.T @ x
            for _ in range(3):
                self.heads @ self.heads.transpose(1, 2)
                self.weights @ self.heads


def measure(size: str, frames: int, dtype: torch.dtype, device: torch.device, options: Namespace) -> dict[str, Any]:
    """Times of a step without the optimiser and of its products, of a patch model."""
    batch = options.batch
    model = new_pretext(WIDTHS[size], frames, PATCHES["patch"], 0).to(device)
    fbank = torch.randn(batch, frames, 128, device=device)
    masked, keys = round(400 / 512 * 8 * (frames // 16)), torch.arange(batch)
    drawn = {name: masks(model.v.grid, masked, keys + i * batch).to(device) for i, name in enumerate(("mpc", "mpg"))}

    def step() -> None:
        model.zero_grad(set_to_none=True)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            losses = model(fbank, drawn).losses
        (losses["mpc"].mean() + 10 * losses["mpg"].mean()).backward()

    products = Products(model, 2 * batch, dtype, device)
    times = paired({"step": step, "products": products}, options.rounds, device.type, options.clock)
    flops, fastest = products.flops, min(times["step"])
    return {
        "model": f"{size}-patch",
        "frames": frames,
        "batch": batch,
        "precision": str(dtype).removeprefix("torch."),
        "step_seconds": fastest,
        "gflops": flops / fastest / 1e9,
        "share": ratio(times["products"], times["step"]),
    }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--sizes", nargs="+", default=["tiny"], choices=list(WIDTHS))
    parser.add_argument("--frames", nargs="+", type=int, default=[128, 512])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="auto")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cases = [(size, frames) for size in options.sizes for frames in options.frames]
    dtype = resolve_precision(options.precision, device)
    numbers = [measure(*case, dtype, device, options) for case in cases]
    rows = [["model", "frames", "batch", "precision", "step", "GFLOP/s", "of the products' rate"]]
    for n in numbers:
        step = f"{1e3 * n['step_seconds']:.0f} ms"
        shape = [n["model"], str(n["frames"]), str(n["batch"]), n["precision"]]
        rows.append([*shape, step, f"{n['gflops']:.0f}", f"{n['share']:.0%}"])
    facts = machine(device.type, options.threads, options.clock)
    report("Pretraining, forward and backward of the joint loss", facts, rows, numbers, options.json)


if __name__ == "__main__":
    main()

"""Trains the bundled backbone: AlexNet features distilled from ImageNet's on procedural images.

The student starts from random initialisation. It learns to give the same outputs as the teacher after each of the five
convolutions and in the pooled features, on the images of procedural_images.py only: no photographs are used, and no
weights are copied. The student is written (float16, 4.94 MB) whenever the loss on held-out images falls, so a run can
be stopped at any time. The committed file was made on two shared cores by

    OMP_WAIT_POLICY=PASSIVE nice -n 15 \\
        python -m scripts.distill_backbone --minutes 50 --pictures 600 --bfloat16 --threads 2 --seed 0

(the policy keeps waiting threads from spinning, which is expensive on shared cores). The run is limited by time, so a
repetition sees another number of views, and its weights are close to these but not equal.

Examples:
    python -m scripts.distill_backbone --minutes 10 --out /tmp/student.safetensors    a trial
    python -m scripts.distill_backbone --report attentdiffernet/bundled/alexnet_features.safetensors    how good is it?
"""

import argparse
import math
import multiprocessing
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy import ndarray
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from attentdiffernet.backbone import AlexNetFeatures, load_weights
from attentdiffernet.files import replace_file
from attentdiffernet.options import AttentionConfig
from scripts.procedural_images import ImageMaker

DEFAULT_OUT = Path(__file__).parents[1] / "attentdiffernet" / "bundled" / "alexnet_features.safetensors"
ORIGIN = "distilled from ImageNet AlexNet features on procedural pictures by scripts/distill_backbone.py"
# Image size in px -> images per step and share of the steps. A step costs about the same at each size.
SIZES = {112: (96, 0.57), 160: (48, 0.18), 224: (24, 0.2), 448: (6, 0.05)}
VIEW_SIZES = (448, 224, 112)  # the three scales that the detector looks at
WEIGHTS = {"conv1": 1.0, "conv2": 1.0, "conv3": 1.0, "conv4": 1.0, "conv5": 1.5, "pooled": 3.0}
NEGATIVE_SLOPE = 0.2  # how much of a convolution's output under the ReLU counts: some, or dead units get no gradient
REFRESH_SHARE = 0.1  # of the time goes into new pictures
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


class PicturePool:
    """Drawn pictures (N, 384, 384, 3) uint8 in memory, and random views of them.

    A picture serves many times: crop, zoom, turn, colour and mixing make each view a new one; old pictures give way.
    """

    def __init__(self, seed: int, count: int, capacity: int, processes: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.maker = ImageMaker(seed)
        self.capacity = capacity
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            parts = pool.starmap(draw, [(seed + 1 + i, count // processes, 384) for i in range(processes)])
        self.images: list[ndarray] = list(chain(*parts))
        self.drawn = len(self.images)

    def renew(self) -> None:
        """Adds a picture, in the place of the oldest one where the pool is full."""
        image = self.maker.draw()
        if len(self.images) < self.capacity:
            self.images.append(image)
        else:
            self.images[self.drawn % self.capacity] = image
        self.drawn += 1

    def view(self, size: int) -> ndarray:
        """(size, size, 3) uint8: a random window, sharp, smooth or aliased (as the detector's scales are)."""
        rng = self.rng
        image = self.images[rng.integers(len(self.images))]
        full = image.shape[0]
        side = int(full * np.exp(rng.uniform(np.log(0.25), np.log(1.25 if size < 300 else 1.1))))
        kind = rng.random()
        if kind < 0.25 and side <= full:
            y, x = rng.integers(0, full - side + 1, 2)
            window = cv2.resize(image[y : y + side, x : x + side], (size, size), interpolation=cv2.INTER_AREA)
        else:
            zoom = size / side
            free = rng.random() < 0.5
            turn = rng.uniform(0, 360) if free else 90 * rng.integers(4)
            matrix = cv2.getRotationMatrix2D((full / 2, full / 2), float(turn), zoom)
            slack = max(0, full - side) / 2 * zoom
            matrix[:, 2] += size / 2 - full / 2 + rng.uniform(-slack, slack, 2)
            black = free and rng.random() < 0.6  # corners, as rotated views have them
            border = cv2.BORDER_CONSTANT if black else cv2.BORDER_REFLECT_101
            flags = cv2.INTER_LINEAR if kind < 0.6 else cv2.INTER_NEAREST
            window = cv2.warpAffine(image, matrix, (size, size), flags=flags, borderMode=border)
        if rng.random() < 0.5:
            window = window[:, ::-1]
        if rng.random() < 0.15:
            window = window[..., rng.permutation(3)]
        return window

    def batch(self, size: int, count: int) -> Tensor:
        """(count, 3, size, size) float32, ImageNet-normalised, channels last."""
        rng = self.rng
        views = torch.from_numpy(np.stack([self.view(size) for _ in range(count)]))
        x = views.permute(0, 3, 1, 2).float().div_(255)

        def some(probability: float, values: ndarray, neutral: float) -> Tensor:
            """(count, C, 1, 1): the values where a coin falls so, elsewhere the neutral one."""
            chosen = np.where(rng.random((count, 1)) < probability, values, neutral)
            return torch.from_numpy(chosen.astype(np.float32))[:, :, None, None]

        if rng.random() < 0.5:
            mixed = some(0.2, rng.uniform(0.2, 0.8, (count, 1)), 0)
            x = torch.lerp(x, x.roll(1, 0), mixed)
        gain = some(0.5, rng.uniform(0.5, 1.4, (count, 1)), 1) * some(0.3, rng.uniform(0.8, 1.2, (count, 3)), 1)
        x = x * gain + some(0.4, rng.uniform(-0.15, 0.15, (count, 1)), 0)
        grey = some(0.15, np.ones((count, 1)), 0)
        x = torch.lerp(x, x.mean(1, keepdim=True), grey)
        if rng.random() < 0.4:
            noise = torch.from_numpy(rng.standard_normal(x.shape, np.float32))
            x = x + noise * some(0.5, np.exp(rng.uniform(np.log(0.005), np.log(0.12), (count, 1))), 0)
        return normalise(x.clamp_(0, 1))


def draw(seed: int, count: int, size: int) -> list[ndarray]:
    cv2.setNumThreads(1)
    maker = ImageMaker(seed, size)
    return [maker.draw() for _ in range(count)]


def normalise(x: Tensor) -> Tensor:
    return ((x - MEAN) / STD).contiguous(memory_format=torch.channels_last)


def held_out_views(seed: int, count: int) -> Tensor:
    """(count, 3, 448, 448) normalised views of pictures drawn for this alone; every other one turned, corners black."""
    images = draw(seed, count, 448)
    rng = np.random.default_rng(seed)
    for i in range(0, count, 2):
        matrix = cv2.getRotationMatrix2D((224, 224), rng.uniform(0, 360), 1)
        images[i] = cv2.warpAffine(images[i], matrix, (448, 448), flags=cv2.INTER_LINEAR)
    return normalise(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255)


def at_scales(views: Tensor) -> Iterator[tuple[int, Tensor]]:
    """The detector's three sizes of (B, 3, 448, 448), made as it makes them (nearest)."""
    for size in VIEW_SIZES:
        yield size, views if size == 448 else F.interpolate(views, size=(size, size))


def responses(net: AlexNetFeatures, x: Tensor) -> dict[str, Tensor]:
    """conv1 ... conv5 before their ReLU (B, C, h, w), and pooled (B, 256)."""
    levels = {}
    for name, layer in chain(net.stem.named_children(), net.trunk.named_children()):
        if name == "conv1":  # its gradient takes ten times as long in bfloat16 (three channels)
            with torch.autocast("cpu", enabled=False):
                x = layer(x)
        else:  # relu* works in place, which would overwrite the convolution's output
            x = F.relu(x) if name.startswith("relu") else layer(x)
        if name.startswith("conv"):
            levels[name] = x
    levels["pooled"] = x.float().mean((2, 3))
    return levels


def read_out(levels: dict[str, Tensor]) -> dict[str, Tensor]:
    """What is compared in training: convolutions with a little of what the ReLU cuts off."""
    return {k: v if k == "pooled" else F.leaky_relu(v, NEGATIVE_SLOPE) for k, v in levels.items()}


class Loss:
    """Weighted sum over the levels of the squared error, each channel in units of the teacher's variance there.

    The pooled features have their own variance at each size. Channels that hardly move are measured in units of a third
    of the median deviation, or their rare answers would be all that counts.
    """

    def __init__(self, teacher: AlexNetFeatures, samples: Iterator[Tensor]) -> None:
        self.teacher = teacher
        answers: dict[tuple[str, int], list[Tensor]] = {}
        for x in samples:
            with torch.no_grad():
                levels = read_out(responses(teacher, x))
            for name, level in levels.items():
                if name != "pooled":
                    level = torch.stack([level.mean((0, 2, 3)), level.square().mean((0, 2, 3))])
                answers.setdefault((name, x.shape[-1]), []).append(level)
        self.inverse: dict[tuple[str, int], Tensor] = {}
        for key, parts in answers.items():
            if key[0] == "pooled":
                deviation = torch.cat(parts).std(0)
            else:
                first, second = torch.stack(parts).mean(0)
                deviation = (second - first.square()).clamp(min=0).sqrt()
            self.inverse[key] = 1 / deviation.clamp(min=deviation.median().item() / 3)

    def __call__(self, student: AlexNetFeatures, x: Tensor) -> Tensor:
        size = x.shape[-1]
        with torch.no_grad():
            wanted = read_out(responses(self.teacher, x))
        total = x.new_zeros(())
        for name, level in read_out(responses(student, x)).items():
            scale = self.inverse[name, size]
            error = (level - wanted[name]).float() * (scale if name == "pooled" else scale.view(1, -1, 1, 1))
            total = total + WEIGHTS[name] * error.square().mean()
        return total


@torch.no_grad()
def explained_variance(
    student: AlexNetFeatures, teacher: AlexNetFeatures, views: Tensor
) -> dict[int, dict[str, float]]:
    """R² of the student per size and level (relu1 ... relu5, pooled), mean over channels.

    Channels whose deviation is under 1% of the level's largest have nothing to explain and are left out.
    """
    report: dict[int, dict[str, float]] = {}
    for size in VIEW_SIZES:
        sums: dict[str, Tensor] = {}
        for part in views.split(8):
            x = dict(at_scales(part))[size]
            for (name, s), t in zip(responses(student, x).items(), responses(teacher, x).values(), strict=True):
                if name == "pooled":
                    s, t = s[:, :, None], t[:, :, None]
                else:
                    s, t = F.relu(s).flatten(2), F.relu(t).flatten(2)
                n = torch.full((t.shape[1],), t.shape[0] * t.shape[2], dtype=torch.float64)
                s, t = s.double(), t.double()
                moments = torch.stack([n, t.sum((0, 2)), t.square().sum((0, 2)), (s - t).square().sum((0, 2))])
                sums[name] = sums.get(name, 0) + moments
        report[size] = {}
        for name, (n, first, second, error) in sums.items():
            variance = second / n - (first / n) ** 2
            alive = variance > 1e-4 * variance.max()
            report[size][name.replace("conv", "relu")] = float((1 - error / n / variance)[alive].mean())
    return report


def show(report: dict[int, dict[str, float]]) -> str:
    return "\n".join(
        f"  {size:>3} px   " + "   ".join(f"{name} {value:.4f}" for name, value in levels.items())
        for size, levels in report.items()
    )


def backbone(weights: str | None = None) -> AlexNetFeatures:
    net = AlexNetFeatures("none", AttentionConfig())
    if weights:
        net.load_convolutions(load_weights(weights), weights)
    return net


def save(net: AlexNetFeatures, path: Path, metadata: dict[str, str]) -> None:
    tensors = {
        f"{prefix}.{name}": parameter.detach().half().contiguous()
        for prefix, conv in net.convolutions().items()
        for name, parameter in conv.named_parameters()
    }
    with replace_file(path) as file:
        file.write(to_bytes(tensors, metadata))


def distill(args: argparse.Namespace) -> None:  # noqa: PLR0915  one training loop, in the order of time
    started = time.monotonic()
    torch.manual_seed(args.seed)
    teacher = backbone(args.teacher).requires_grad_(False)
    student = backbone(str(args.start) if args.start else None)  # PyTorch's initialisation: small, so little to unlearn
    average, rounded = backbone().requires_grad_(False), backbone().requires_grad_(False)
    average.load_state_dict(student.state_dict())

    pool = PicturePool(args.seed, args.pictures, 3 * args.pictures, torch.get_num_threads())
    held_out = held_out_views(seed=args.seed + 1_000_000, count=48)
    loss_of = Loss(teacher, (pool.batch(size, 24) for size in SIZES for _ in range(10)))
    convolutions = list(student.convolutions().values())
    # Muon wants matrices: these share the memory of the convolutions' weights. It is far less slowed than Adam by the
    # strong correlation of neighbouring pixels. Biases start far from the teacher's and are few: they may run ahead.
    matrices = [nn.Parameter(conv.weight.detach().flatten(1)) for conv in convolutions]
    assert all(m.data_ptr() == conv.weight.data_ptr() for m, conv in zip(matrices, convolutions, strict=True))
    muon = torch.optim.Muon(matrices, weight_decay=0, adjust_lr_fn="match_rms_adamw")
    adam = torch.optim.Adam([conv.bias for conv in convolutions if conv.bias is not None], betas=(0.9, 0.99))
    budget, best, step, seen = args.minutes * 60, math.inf, 0, 0
    drawing, next_check = 0.0, time.monotonic() - started + args.check_seconds
    print(f"{pool.drawn} pictures drawn in {time.monotonic() - started:.0f} s", flush=True)

    while (elapsed := time.monotonic() - started) < budget:
        progress = elapsed / budget
        rate = args.learning_rate * min(1, (step + 1) / 200) * (1 - progress)
        muon.param_groups[0]["lr"], adam.param_groups[0]["lr"] = rate, 3 * rate
        while drawing < REFRESH_SHARE * elapsed and progress < 0.95:
            before = time.monotonic()
            pool.renew()
            drawing += time.monotonic() - before
        size = int(pool.rng.choice(list(SIZES), p=[share for _, share in SIZES.values()]))
        x = pool.batch(size, SIZES[size][0])
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bfloat16):
            loss = loss_of(student, x)
        student.zero_grad()
        loss.backward()
        for matrix, conv in zip(matrices, convolutions, strict=True):
            assert conv.weight.grad is not None
            matrix.grad = conv.weight.grad.flatten(1)
        muon.step()
        adam.step()
        step, seen = step + 1, seen + len(x)
        with torch.no_grad():
            for mean, now in zip(average.parameters(), student.parameters(), strict=True):
                mean.lerp_(now, max(0.002, 1 / (1 + step / 10)))

        elapsed = time.monotonic() - started
        if elapsed >= min(next_check, budget):
            next_check = elapsed + args.check_seconds
            with torch.no_grad():
                for kept, mean in zip(rounded.parameters(), average.parameters(), strict=True):
                    kept.copy_(mean.half())
                losses: dict[int, float] = {}
                for size in VIEW_SIZES:
                    parts = dict(at_scales(held_out))[size].split(8)
                    losses[size] = sum((float(loss_of(rounded, part)) for part in parts), start=0.0) / 6
            held_out_loss = sum(losses.values()) / 3
            print(
                f"{elapsed / 60:6.1f} min  step {step}  views {seen}  pictures {pool.drawn}  "
                f"loss {loss.item():.4f}  held out {held_out_loss:.4f}"
                f"  ({', '.join(f'{size}: {value:.4f}' for size, value in losses.items())})",
                flush=True,
            )
            if held_out_loss < best:
                best = held_out_loss
                how = {"steps": str(step), "views": str(seen), "held_out_loss": f"{best:.5f}"}
                save(rounded, args.out, {"origin": ORIGIN, **how})
    if best == math.inf:
        raise SystemExit(
            f"{args.minutes:g} minutes went into drawing {pool.drawn} pictures: nothing trained or written"
        )
    print(f"best held-out loss {best:.4f}, in {args.out}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--minutes",
        type=float,
        default=70,
        help="wall time, drawing included; the learning rate falls to zero over it (70)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of initialisation, pictures and views (0)")
    parser.add_argument(
        "--teacher", default="imagenet", help="weights as `load_weights` takes them: imagenet, or a file (imagenet)"
    )
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="the file to write (the bundled one)")
    parser.add_argument("--start", type=Path, help="go on from an earlier student instead of random initialisation")
    parser.add_argument(
        "--report", type=Path, help="only print how much of the teacher this student explains, on 192 fresh pictures"
    )
    parser.add_argument(
        "--pictures",
        type=int,
        default=2000,
        help="drawn before the first step, 0.45 MB each; thrice as many at most in memory (2000)",
    )
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="its peak (0.002)")
    parser.add_argument("--check-seconds", type=float, default=120, help="between looks at the held-out pictures (120)")
    parser.add_argument(
        "--bfloat16",
        action="store_true",
        help="half the time on CPUs with AVX-512 BF16 or AMX; hundreds of times slower on others",
    )
    parser.add_argument("--threads", type=int, help="CPU threads (PyTorch's choice)")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.report:
        report = explained_variance(
            backbone(str(args.report)), backbone(args.teacher), held_out_views(seed=7_000_000, count=192)
        )
        print(f"Explained variance (R², mean over channels) of {args.teacher} by {args.report} on 192 drawn pictures")
        print(show(report))
    else:
        distill(args)


if __name__ == "__main__":
    main()

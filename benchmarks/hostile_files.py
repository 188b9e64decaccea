"""What mutated image files do: 5,000 of 8 formats, made from real ones, to library and command line, some to the page.

    python -m benchmarks.hostile_files                      5,000 mutated files, about five minutes
    python -m benchmarks.hostile_files --whole FOLDER       reads all images below a folder; says which are refused

Every file must be read, or scored, or be refused with one sentence. Writes benchmarks/hostile_files.json: how many of
each format the library read and refused, the longest time, the most memory of the process that decoded them all, and
what the command line and the page made of them.
"""

import argparse
import io
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from attentdiffernet.errors import ImageError
from attentdiffernet.images import images_below, read_image

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "benchmarks" / "hostile_files.json"
EXAMPLES = ROOT / "demo" / "examples" / "sample"
MODEL = ROOT / "models" / "sample" / "wafer" / "none"
N_FILES, SEED = 5_000, 0
EVERY = 9  # one in so many is sent to the page; the formats take turns
AT_ONCE = 10  # of one upload: each step of its answer holds all of them
SUFFIXES = {
    "JPEG": "jpg",
    "progressive JPEG": "jpeg",
    "PNG": "png",
    "16-bit PNG": "png",
    "float TIFF": "tif",
    "WebP": "webp",
    "GIF": "gif",
    "BMP": "bmp",
}


def encodings(image: Image.Image) -> dict[str, bytes]:
    """One photograph as files of 8 kinds."""
    grey = np.asarray(image.convert("L"))
    deep, floats = Image.fromarray(grey.astype(np.uint16) * 16), Image.fromarray(grey.astype(np.float32) / 255)
    return {
        "JPEG": _saved(image, "JPEG", quality=90),
        "progressive JPEG": _saved(image, "JPEG", progressive=True),
        "PNG": _saved(image, "PNG"),
        "16-bit PNG": _saved(deep, "PNG"),
        "float TIFF": _saved(floats, "TIFF", compression="tiff_lzw"),
        "WebP": _saved(image, "WEBP"),
        "GIF": _saved(image.convert("P"), "GIF"),
        "BMP": _saved(image, "BMP"),
    }


def _saved(image: Image.Image, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Bits flipped, cut short and closed again, a piece repeated, taken out or overwritten; often in the header."""
    place = rng.randrange(min(len(data), 300) if rng.random() < 0.5 else len(data))
    length = rng.choice([1, 2, 4, 64, 4096])
    changes = (
        lambda: _flipped(data, rng),
        lambda: data[:place],
        lambda: data[: max(place, 4)] + data[-2:],
        lambda: data[:place] + data[place : place + length] * rng.choice([2, 10, 1000]) + data[place + length :],
        lambda: data[:place] + data[place + length :],
        lambda: data[:place] + bytes([rng.choice([0, 0xFF, 0x7F])]) * length + data[place + length :],
        lambda: data[:place] + rng.randbytes(length) + data[place + length :],
    )
    return rng.choice(changes)()


def _flipped(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice([1, 3, 30])):
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def outcome(data: bytes) -> str:
    """`read`, or `refused`. Raises AssertionError for pixels or a sentence that nobody could use; other exceptions of a
    decoder come through."""
    try:
        pixels = read_image(io.BytesIO(data), "part")
    except ImageError as error:
        said = str(error)
        assert said.startswith("part "), said
        assert "\n" not in said, said
        return "refused"
    assert pixels.dtype == np.uint8
    assert pixels.shape[2:] == (3,)
    return "read"


def mutants(n_files: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """(format, content) of each; the same ones for the same seed."""
    rng = random.Random(seed)
    files = [encodings(Image.open(path).convert("RGB")) for path in sorted(EXAMPLES.glob("*/good.*"))]
    for k in range(n_files):
        form = list(SUFFIXES)[k % len(SUFFIXES)]
        yield form, mutated(rng.choice(files)[form], rng)


def by_library(files: Iterable[tuple[str, bytes]]) -> dict[str, object]:
    counts, slowest, slowest_of = Counter[str](), 0.0, ""
    for form, data in files:
        start = time.process_time()
        counts[f"{form} {outcome(data)}"] += 1
        if (seconds := time.process_time() - start) > slowest:
            slowest, slowest_of = seconds, form
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    found = {form: {what: counts[f"{form} {what}"] for what in ("read", "refused")} for form in SUFFIXES}
    return {
        "files": counts.total(),
        "outcomes": found,
        "slowest_s": round(slowest, 3),
        "slowest": slowest_of,
        "memory_gb": round(memory, 2),
    }


def by_command_line(folder: Path, n_files: int) -> dict[str, int]:
    """`score` over all files of a folder: how many got a score, and how many a sentence."""
    out = folder.parent / "scores.csv"
    command = ["score", str(MODEL), str(folder), "--views", "1", "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "attentdiffernet.cli", *command], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    rows = pd.read_csv(out)
    assert len(rows) == n_files, f"{n_files} files, {len(rows)} lines"
    assert (rows["score"].isna() == rows["error"].notna()).all()
    return {"scored": int(rows["score"].notna().sum()), "refused": int(rows["error"].notna().sum())}


def by_page(files: Sequence[Path], folder: Path) -> dict[str, int]:
    """A visitor's uploads to a running demo: how many got verdicts, and how many a sentence."""
    from gradio_client import Client, handle_file

    from .load import CATEGORY, demo

    counts = Counter[str]()
    with demo(folder) as (address, _, log):
        client = Client(address, verbose=False)
        for start in range(0, len(files), AT_ONCE):
            sent = [handle_file(file) for file in files[start : start + AT_ONCE]]
            answer, _ = client.predict(sent, CATEGORY, "grad-cam", "patchcore-places", api_name="/compare")
            assert len(answer["images"]) == len(sent)
            counts.update("refused" if image.get("error") else "scored" for image in answer["images"])
        said = log.read_text(encoding="utf-8")
    assert "Traceback" not in said, said
    return {"scored": counts["scored"], "refused": counts["refused"]}


def measure(n_files: int, seed: int) -> dict[str, object]:
    found = by_library(mutants(n_files, seed))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "files"
        folder.mkdir()
        for k, (form, data) in enumerate(mutants(n_files, seed)):
            (folder / f"part {k:04d}.{SUFFIXES[form]}").write_bytes(data)
        found["command line"] = by_command_line(folder, n_files)
        found["page"] = by_page(sorted(folder.iterdir())[::EVERY], Path(name))
    return found


def read_all(folder: str) -> None:
    n_files, refused = 0, 0
    for path in images_below(folder):
        n_files += 1
        try:
            read_image(path)
        except ImageError as error:
            refused += 1
            print(error)
    print(f"{n_files} images, {refused} refused")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--whole", metavar="FOLDER")
    parser.add_argument("--files", type=int, default=N_FILES)
    asked = parser.parse_args()
    if asked.whole:
        read_all(asked.whole)
        return
    found = measure(asked.files, SEED)
    OUT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

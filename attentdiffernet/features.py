"""Features of a frozen backbone: computed once per image and view, kept on disk by content."""

import contextlib
import hashlib
import io
import os
import tempfile
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor

from .devices import pinned, read_behind, to_device
from .errors import ImageError
from .files import replace_file, sweep_folder
from .model import AttentDifferNet
from .options import ALEXNET
from .sources import ImageSource, digest_of, pixels_of
from .stages import Progress, no_progress
from .views import make_views, random_views

CACHE_ENVIRONMENT = "ATTENTDIFFERNET_CACHE"
CACHE_BYTES = 2_000_000_000  # the oldest features go when a run ends above this
# Increased with each change of the code that changes features (decoding, resizing, rotation, scales, pooling), so that
# entries of other versions are not read.
FEATURES_VERSION = 1
CHECKSUM_BYTES = 4  # at the end of each entry


@dataclass(frozen=True)
class Pace:
    """How a device is kept busy. views: in one batch of the backbone. shared: whether a batch holds several images, and
    results are read one batch behind. threads: that decode images, `ahead` images in advance."""

    views: int
    shared: bool
    threads: int
    ahead: int


# More views at once run slower per view on a CPU: they no longer fit its cache.
ON_CPU = Pace(views=16, shared=False, threads=1, ahead=4)
ON_GPU = Pace(views=128, shared=True, threads=8, ahead=32)

T = TypeVar("T")
Item = TypeVar("Item")
Result = TypeVar("Result")
# (image (3, S, S), its views (V, 2, 2), a value that is passed through); without views there is no image
Work = tuple[Tensor | None, Tensor, T]


def default_cache() -> Path:
    """Where features are kept: ATTENTDIFFERNET_CACHE, or the user's cache folder, or the one for temporary files where
    a user has no home. Safe to delete at any time."""
    if named := os.environ.get(CACHE_ENVIRONMENT):
        return Path(named)
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:  # in containers, a user may have a number only
        base = tempfile.gettempdir()
    return Path(base) / "attentdiffernet"


class FeatureExtractor:
    """Features (V, 768) of images through one model's frozen backbone.

    cache: folder of features computed before, or None to compute all. An entry's name is the digest of the image's
    bytes, the backbone's weights (convolutions and attention), the view and FEATURES_VERSION, so nothing stale is ever
    read.

    views_computed: copies of images that this process has put through a backbone so far, without those read from the
    cache.
    """

    views_computed: ClassVar[int] = 0

    def __init__(self, model: AttentDifferNet, cache: Path | None = None) -> None:
        self.model = model
        self.cache = cache

    @cached_property
    def backbone_digest(self) -> str:
        """Of all that decides the features of views: equal for models with equal features."""
        config = self.model.config
        digest = hashlib.sha256(str(FEATURES_VERSION).encode())
        if config.gated:  # how gates were trained is in their weights, except whether their range is 1 or 2
            blocks = config.attention
            start = (
                f"{config.variant} {blocks.placement} {blocks.reduction} {blocks.kernel_size} {blocks.identity_start}"
            )
            digest.update(start.encode())
        if self.model.precision != "float32":
            digest.update(self.model.precision.encode())
        if config.backbone != ALEXNET:
            digest.update(config.backbone.encode())
        digest.update(f"{config.image_size} {config.n_scales} {config.resize} {config.exposure}".encode())
        for name, tensor in self.model.backbone.state_dict().items():
            if ".attention" in name and not config.gated:
                continue
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    @property
    def pace(self) -> Pace:
        return ON_CPU if self.model.device.type == "cpu" else ON_GPU

    def random_views(
        self, sources: Sequence[ImageSource], n_views: int, seed: int, progress: Progress = no_progress
    ) -> Tensor:
        """(N, V, 768) of random views, which depend on the seed and the image's content alone. Raises ImageError for an
        image that cannot be read."""

        def views(content: bytes) -> Tensor:
            # Of a generator's seed, torch takes the lower 32 bits only.
            rng = torch.Generator().manual_seed(zlib.crc32(content, seed))
            return random_views(self.model.config.views, n_views, rng)

        stage, total = "features of training images", len(sources)
        progress(stage, 0, total)
        rows = []
        for row in readable(self._of_sources(sources, views, self.model.prepare_to_train)):
            rows.append(row)
            progress(stage, len(rows), total)
        return torch.stack(rows)

    def even_views(self, sources: Iterable[ImageSource], n_views: int) -> Iterator[Tensor | ImageError]:
        """One (V, 768) per image of the views that it is scored on, or why it cannot be read; in order, as they are
        ready. Reads only a few images ahead, so the sources may be any number."""
        return self._of_sources(
            sources, self.model.views(n_views), lambda source: self.model.prepare(pixels_of(source))
        )

    def of_image(self, image: Tensor, views: Tensor) -> Tensor:
        """Features of one image (3, S, S) in [0, 1] under the given views of `make_views`: (V, 768), on the model's
        device."""
        image = to_device(image, self.model.device)
        with torch.inference_mode():
            batches = views.split(self.pace.views)
            FeatureExtractor.views_computed += len(views)
            return torch.cat([self.model.features(make_views(image, batch)) for batch in batches])

    def of_tensors(self, images: Iterable[Tensor], views: Tensor) -> Iterator[Tensor]:
        """As `of_image` of each, on the CPU and through the cache: for images that are generated again identically."""
        work = (self._looked_up(hashlib.sha256(x.numpy().tobytes()).digest(), views, lambda: x) for x in images)  # noqa: B023  called at once
        return (kept.completed(features) for features, kept in self.stream(work))

    def stream(self, work: Iterable[Work[T]]) -> Iterator[tuple[Tensor, T]]:
        """(features (V, 768) on the CPU, the value passed through) of each image, in order, as they are ready.

        On a GPU images share batches, and the next one is launched before the results of one are read.
        """
        launched = ((self._launched(batch), batch) for batch in self._batches(work))
        for features, batch in read_behind(launched, self.pace.shared):
            parts = features.split([len(views) for _, views, _ in batch])
            for part, (_, _, came_along) in zip(parts, batch, strict=True):
                yield part, came_along

    def _batches(self, work: Iterable[Work[T]]) -> Iterator[list[Work[T]]]:
        """A batch ends where another image with as many views as its last one would exceed the limit."""
        batch: list[Work[T]] = []
        size = 0
        for item in work:
            cost = max(1, len(item[1]))  # images without views must not wait for ever
            batch, size = [*batch, item], size + cost
            if not self.pace.shared or size + cost > self.pace.views:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def _launched(self, batch: list[Work[T]]) -> Tensor:
        """Features of all views of a batch, in its order, on the device. Images of one shape run together."""
        shapes: dict[torch.Size, dict[int, Tensor]] = {}
        for k, (image, _, _) in enumerate(batch):
            if image is not None:
                shapes.setdefault(image.shape, {})[k] = image
        rows: dict[int, Tensor] = {}
        for images in shapes.values():
            views = [batch[k][1] for k in images]
            features = self._together(list(images.values()), views)
            rows |= zip(images, features.split([len(of_one) for of_one in views]), strict=True)
        return torch.cat([rows[k] for k in sorted(rows)]) if rows else torch.empty(0, self.model.n_features)

    def _together(self, images: list[Tensor], views: list[Tensor]) -> Tensor:
        if len(images) == 1:
            return self.of_image(images[0], views[0])
        FeatureExtractor.views_computed += sum(map(len, views))
        copies = [
            to_device(image, self.model.device).expand(len(of_one), -1, -1, -1)
            for image, of_one in zip(images, views, strict=True)
        ]
        with torch.inference_mode():
            return self.model.features(make_views(torch.cat(copies), torch.cat(views)))

    def _of_sources(
        self,
        sources: Iterable[ImageSource],
        views: Tensor | Callable[[bytes], Tensor],
        prepared: Callable[[ImageSource], Tensor],
    ) -> Iterator[Tensor | ImageError]:
        """views: the same for all images, or made from the digest of each."""

        def read(source: ImageSource) -> Work[_Kept | ImageError]:
            try:
                content = b"" if self.cache is None and isinstance(views, Tensor) else digest_of(source)
                its_views = views if isinstance(views, Tensor) else views(content)
                return self._looked_up(content, its_views, lambda: prepared(source))
            except (ImageError, OSError) as error:
                return None, torch.empty(0, 2, 2), _as_image_error(error, source)

        for features, kept in self.stream(ahead(read, sources, self.pace)):
            yield kept if isinstance(kept, ImageError) else kept.completed(features)
        self._trim()

    def _looked_up(self, content: bytes, views: Tensor, image: Callable[[], Tensor]) -> "Work[_Kept]":
        """An image with those of its views that the cache lacks. Each view has its own entry, so that other selections
        of views find what was computed."""
        kept = _Kept([], [])
        if self.cache is not None:
            keys = [
                hashlib.sha256(self.backbone_digest.encode() + content + v.numpy().tobytes()).hexdigest() for v in views
            ]
            kept.paths = [self.cache / key[:2] / f"{key}.npy" for key in keys]
            kept.rows = [self._stored(path) for path in kept.paths]
            views = views[[k for k, row in enumerate(kept.rows) if row is None]]
        return pinned(image(), self.model.device) if len(views) else None, views, kept

    def _stored(self, path: Path) -> Tensor | None:
        """None where there is no such entry, or none that is sound: it is then computed again."""
        with contextlib.suppress(OSError, ValueError, EOFError):
            content = path.read_bytes()
            row, checksum = content[:-CHECKSUM_BYTES], content[-CHECKSUM_BYTES:]
            if checksum == _checksum(row):
                stored = np.load(io.BytesIO(row), allow_pickle=False)
                if stored.shape == (self.model.n_features,) and stored.dtype == np.float32:
                    return torch.from_numpy(stored)
        return None

    def _trim(self) -> None:
        if self.cache is None or not self.cache.is_dir():
            return
        for folder in self.cache.glob("*/"):
            sweep_folder(folder)
        files = []
        for path in self.cache.glob("*/*.npy"):
            with contextlib.suppress(FileNotFoundError):  # another process trims, too
                found = path.stat()
                files.append((found.st_mtime, found.st_size, path))
        total = 0
        for _, size, path in sorted(files, reverse=True):
            total += size
            if total > CACHE_BYTES:
                path.unlink(missing_ok=True)


@dataclass
class _Kept:
    """The cached features of an image, by view; None where they are missing. Empty without a cache."""

    paths: list[Path]
    rows: list[Tensor | None]

    def completed(self, lacking: Tensor) -> Tensor:
        """(V, 768), completed by the missing rows, which are added to the cache."""
        if not self.paths:
            return lacking
        computed, rows = iter(lacking), []
        for path, row in zip(self.paths, self.rows, strict=True):
            if row is None:
                row = next(computed)
                _store(path, row)
            rows.append(row)
        return torch.stack(rows)


def readable(found: Iterable[Tensor | ImageError]) -> Iterator[Tensor]:
    """The features of images that can all be read. Raises the ImageError of the first that cannot."""
    for features in found:
        if isinstance(features, ImageError):
            raise features
        yield features


def _as_image_error(error: ImageError | OSError, source: ImageSource) -> ImageError:
    if isinstance(error, ImageError):
        return error
    return ImageError(f"{Path(str(source)).name} could not be read: {error.strerror or error}")


def _store(path: Path, row: Tensor) -> None:
    # A full or read-only disk costs time later, not the run.
    with contextlib.suppress(OSError), replace_file(path, durable=False) as file:
        content = io.BytesIO()
        np.save(content, row.numpy())
        file.write(content.getvalue() + _checksum(content.getvalue()))


def _checksum(content: bytes) -> bytes:
    """CHECKSUM_BYTES against faults of a disk, where one flipped bit would change a verdict."""
    return zlib.crc32(content).to_bytes(CHECKSUM_BYTES)


def ahead(do: Callable[[Item], Result], items: Iterable[Item], pace: Pace) -> Iterator[Result]:
    """do(item) for each item, in order, by threads that work a few items ahead."""
    upcoming: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(pace.threads)
    try:
        for item in items:
            upcoming.append(pool.submit(do, item))
            if len(upcoming) > pace.ahead:
                yield upcoming.popleft().result()
        while upcoming:
            yield upcoming.popleft().result()
    finally:  # without waiting: what is left unfinished may be collected in one of these threads
        pool.shutdown(wait=False, cancel_futures=True)

"""Features of a frozen backbone: computed once per image and view, kept on disk by content."""

import contextlib
import hashlib
import os
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from .data import make_views, random_views, read_image
from .model import AttentDifferNet

CACHE_ENVIRONMENT = "ATTENTDIFFERNET_CACHE"
CACHE_BYTES = 2_000_000_000  # the oldest features go when a run ends above this
# Raised with each change of the code that changes features: decoding, squeezing to a square, rotation, scales, pooling.
# What was kept by other versions is then not read again.
FEATURES_VERSION = 1
VIEWS_PER_BATCH = 16  # more views at once run slower per view: they no longer fit the processor's cache

Progress = Callable[[str, int, int], None]
"""Called as progress(stage, done, total) in the thread that asked for the work."""


def no_progress(stage: str, done: int, total: int) -> None:
    """The default: says nothing."""


def default_cache() -> Path:
    """Where features are kept: ATTENTDIFFERNET_CACHE, or the user's cache folder. Safe to delete at any time."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get(CACHE_ENVIRONMENT) or Path(base) / "attentdiffernet")


class FeatureExtractor:
    """Features (V, 768) of image files through one model's frozen backbone.

    cache: folder of features computed before, or None to compute all. An entry's name is the digest of the image's
    bytes, the backbone's weights (convolutions and attention), the view and FEATURES_VERSION, so nothing stale is ever
    read.

    views_computed: copies of images that this process has put through a backbone so far; what the cache gave is not
    among them.
    """

    views_computed: ClassVar[int] = 0

    def __init__(self, model: AttentDifferNet, cache: Path | None = None) -> None:
        self.model = model
        self.cache = cache

    @cached_property
    def backbone_digest(self) -> str:
        """Of all that makes features of views: equal for models whose features are equal."""
        config = self.model.config
        digest = hashlib.sha256(f"{FEATURES_VERSION} {config.attention}".encode())
        digest.update(f"{config.image_size} {config.n_scales} {config.resize} {config.exposure}".encode())
        for tensor in self.model.backbone.state_dict().values():
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def random_views(self, paths: Sequence[Path], n_views: int, seed: int, progress: Progress = no_progress) -> Tensor:
        """(N, V, 768) of random views, which depend on the seed and the image's content alone."""

        def views(content: bytes) -> Tensor:
            # Of a generator's seed, torch takes the lower 32 bits only.
            rng = torch.Generator().manual_seed(zlib.crc32(content, seed))
            return random_views(self.model.config.views, n_views, rng)

        return torch.stack(list(self._stream(paths, views, "features of training images", progress)))

    def even_views(self, paths: Sequence[Path], n_views: int, progress: Progress = no_progress) -> Iterator[Tensor]:
        """One (V, 768) per image of the views that it is scored on, in the order of the paths, as they are ready."""
        views = self.model.views(n_views)
        return self._stream(paths, lambda content: views, "features of images to score", progress)

    def of_image(self, image: Tensor, views: Tensor) -> Tensor:
        """Features of one image (3, S, S) in [0, 1] under the given views of `make_views`: (V, 768)."""
        with torch.inference_mode():
            batches = views.split(VIEWS_PER_BATCH)
            FeatureExtractor.views_computed += len(views)
            return torch.cat([self.model.features(make_views(image, batch)) for batch in batches])

    def of_tensor(self, image: Tensor, views: Tensor) -> Tensor:
        """As `of_image`, through the cache: for images that are made anew in the same way."""
        return self._cached(hashlib.sha256(image.numpy().tobytes()).digest(), views, lambda: image)

    def _stream(
        self, paths: Sequence[Path], views_of: Callable[[bytes], Tensor], stage: str, progress: Progress
    ) -> Iterator[Tensor]:
        for done, (content, image) in enumerate(_read_ahead(paths, self.model.prepare)):
            progress(stage, done, len(paths))
            yield self._cached(content, views_of(content), image)
        progress(stage, len(paths), len(paths))
        self._trim()

    def _cached(self, content: bytes, views: Tensor, image: Callable[[], Tensor]) -> Tensor:
        """An entry for each view, so that whoever asks for some of them finds what others have computed."""
        if self.cache is None:
            return self.of_image(image(), views)
        keys = [
            hashlib.sha256(self.backbone_digest.encode() + content + v.numpy().tobytes()).hexdigest() for v in views
        ]
        paths = [self.cache / key[:2] / f"{key}.npy" for key in keys]
        rows = [self._stored(path) for path in paths]
        if lacking := [k for k, row in enumerate(rows) if row is None]:
            for k, row in zip(lacking, self.of_image(image(), views[lacking]), strict=True):
                rows[k] = row
                _store(paths[k], row)
        return torch.stack([row for row in rows if row is not None])

    def _stored(self, path: Path) -> Tensor | None:
        with contextlib.suppress(OSError, ValueError, EOFError):
            stored = np.load(path, allow_pickle=False)
            if stored.shape == (self.model.n_features,) and stored.dtype == np.float32:
                return torch.from_numpy(stored)
        return None

    def _trim(self) -> None:
        if self.cache is None or not self.cache.is_dir():
            return
        files = sorted(((p.stat().st_mtime, p.stat().st_size, p) for p in self.cache.glob("*/*.npy")), reverse=True)
        total = 0
        for _, size, path in files:
            total += size
            if total > CACHE_BYTES:
                path.unlink(missing_ok=True)


def _store(path: Path, row: Tensor) -> None:
    with contextlib.suppress(OSError):  # a full or read-only disk costs time later, not the run
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            try:
                np.save(file, row.numpy())
                os.replace(file.name, path)
            except OSError:
                os.unlink(file.name)
                raise


def _read_ahead(
    paths: Iterable[Path], prepare: Callable[[np.ndarray], Tensor]
) -> Iterator[tuple[bytes, Callable[[], Tensor]]]:
    """(digest of the file, function that gives the decoded image): the next file is read and hashed meanwhile."""
    with ThreadPoolExecutor(max_workers=1) as pool:

        def read(path: Path) -> tuple[bytes, Callable[[], Tensor]]:
            digest = hashlib.sha256(path.read_bytes()).digest() if path.is_file() else b""
            return digest, lambda: prepare(read_image(path))

        upcoming = None
        for path in paths:
            current, upcoming = upcoming, pool.submit(read, path)
            if current is not None:
                yield current.result()
        if upcoming is not None:
            yield upcoming.result()

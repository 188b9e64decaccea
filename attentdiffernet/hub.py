"""Models on the Hugging Face Hub."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from .errors import CheckpointError


def download(name: str, files: Sequence[str]) -> Path:
    """The local copy of `owner/name` on the Hub. Raises CheckpointError where the name cannot be one of the Hub, or the
    Hub does not have it or cannot be reached."""
    path, missing = Path(name), f"There is no model folder {name}"
    if path.exists() or name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise CheckpointError(missing)
    if path.parent.is_dir():
        raise CheckpointError(f"{missing}; the Hugging Face Hub is not asked because a folder {path.parent} exists")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        return Path(snapshot_download(name, allow_patterns=list(files)))
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise CheckpointError(f"{missing} here, and no model of that name on the Hugging Face Hub") from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(
            f"{missing} here, and the Hugging Face Hub could not be reached ({type(error).__name__})"
        ) from error


def upload(save: Callable[[Path], Path], repository: str, private: bool = True, token: str | None = None) -> str:
    """Uploads what `save` writes into a folder to `owner/name` and returns its address."""
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    api.create_repo(repository, private=private, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        return str(api.upload_folder(repo_id=repository, folder_path=save(Path(folder) / "model")))

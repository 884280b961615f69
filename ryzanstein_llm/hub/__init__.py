"""Repositories of the Hugging Face Hub: finding, downloading and caching the files of a model.

The cache is the one of `huggingface_hub`, in its layout, so files that transformers or others have
downloaded are used, and they use ours. Downloads are our own, because an interrupted one goes on
where it ended, and because every file is compared with its checksum.
"""

from .hub_path import HubPath
from .repository import Repository, is_repository_name

__all__ = ["HubPath", "Repository", "is_repository_name"]

"""All targets. Importing this fills `target.TARGETS`."""

from . import files, forms, hub, models, settings, texts

__all__ = ["files", "forms", "hub", "models", "settings", "texts"]

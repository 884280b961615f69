"""The version, where setup, the package and the documents all read it."""

__version__ = "2.0.0"

"""Structured output: texts that follow a JSON schema, a regular expression or a grammar."""

from .output import OUTPUT_ARGUMENTS, OutputFormat

__all__ = ["OUTPUT_ARGUMENTS", "OutputFormat"]

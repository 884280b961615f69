"""Runs sequences of token ids on a model: which sequence is computed when, where its keys and
values are, and which token comes next. Knows no text."""

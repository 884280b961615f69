"""Runs sequences of token ids on a model: who is computed when, where their keys and values lie,
and which token comes next. Knows no text."""

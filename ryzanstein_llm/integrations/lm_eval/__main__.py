"""The command `lm_eval` as `python -m ryzanstein_llm.integrations.lm_eval`, so that it knows the
model `ryzanstein`."""

from lm_eval.__main__ import cli_evaluate

if __name__ == "__main__":
    cli_evaluate()

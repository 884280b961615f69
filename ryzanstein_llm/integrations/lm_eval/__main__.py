"""`python -m ryzanstein_llm.integrations.lm_eval`: the command `lm_eval`, which then knows the model
`ryzanstein`."""

from lm_eval.__main__ import cli_evaluate

if __name__ == "__main__":
    cli_evaluate()

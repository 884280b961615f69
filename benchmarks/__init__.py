"""What is measured beside the library's own `ryzanstein-llm bench`. Not installed."""

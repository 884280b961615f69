"""How much faster many prompts are together than one by one, and how free an event loop stays."""

"""Text to ids and back, and where a text ends. No models here."""

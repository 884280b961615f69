"""Text to ids and back, and where a text ends. Knows no models."""

"""What this machine offers: threads, memory, instruction sets."""

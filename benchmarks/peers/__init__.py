"""Other engines on the same weights, measured in turns with this library.

    python -m benchmarks.peers compare --directory big --llama-python other/bin/python
    python -m benchmarks.peers write-gguf CHECKPOINT FILE.gguf

Each engine is a process of its own, so that each can have its own virtual environment, and sits
idle while another is timed. This module imports nothing: workers run where the library is not.
"""

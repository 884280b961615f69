"""Fuzzing of everything that reads bytes from elsewhere: files, answers of servers, texts.

    python -m tests.fuzz --executions 3000000     long; goes on where it was interrupted
    python -m pytest tests/fuzz                    some hundred inputs for each reader

A reader may succeed or raise an error of `ryzanstein_llm.errors`. Anything else is a finding:
another exception, a crash, more than five seconds of CPU, more than half a gigabyte of memory.
With atheris (extra `fuzz`) coverage of the library's Python code guides the inputs; without it they
are mutations of the seeds alone. The project's own writers make the seeds.
"""

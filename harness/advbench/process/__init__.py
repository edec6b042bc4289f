"""All that touches the interpreter: its state, memory, threads, streams and garbage collection."""

"""The interpreter and its process: state, memory, threads, standard output and garbage collection.

Of advbench it imports ``errors`` and ``api.executor`` only.
"""

"""What a command and the Python API share: opening plugins and stores, running a suite, reading stored runs."""

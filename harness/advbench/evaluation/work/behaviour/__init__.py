"""How components behave, beyond what their code says: their answers to probes, and changes they make to the process."""

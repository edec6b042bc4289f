"""What runs in a worker: adversarial images, predictions, probes."""

"""How components behave on a few fixed images: identified for keys, verified in workers, traced to a culprit."""

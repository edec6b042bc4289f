"""Studies that come with advbench: papers whose experiments ``advbench reproduce`` runs again."""

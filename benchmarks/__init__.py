"""Side-by-side measurements against other libraries; run from the root of the checkout."""

import os

# Read when torch is first imported, for everyone alike: threads that spin while they wait are slow on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

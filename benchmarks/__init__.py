"""Side-by-side measurements against other libraries; run from the root of the checkout."""

import os

# Read when torch is first imported, so set for all libraries alike: threads that spin while waiting slow down a busy
# machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

"""Side-by-side measurements against other libraries; run from the root of the checkout."""

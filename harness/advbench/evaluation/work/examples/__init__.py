"""A few samples of each cell as images, for pages and figures."""

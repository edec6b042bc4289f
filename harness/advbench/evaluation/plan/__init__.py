"""What a run consists of: cells, their keys, and the tasks that compute them."""

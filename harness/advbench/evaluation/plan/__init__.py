"""Plans a run: its cells, their keys and the tasks that compute them. No module here imports torch at its top."""

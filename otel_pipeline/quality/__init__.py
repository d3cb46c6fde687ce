"""The quality of data: what a stage saw of its datasets, and where they come from and go to."""

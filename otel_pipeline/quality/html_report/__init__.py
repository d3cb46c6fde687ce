"""The report on data quality: one HTML page that needs nothing else."""

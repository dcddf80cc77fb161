"""Post-hoc anomaly scores."""

"""Functions of features and labels: collapse, distances, reconstruction, probes."""

"""Getting, measuring, publishing and queueing runs."""

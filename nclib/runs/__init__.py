"""Getting, measuring, publishing and sweeping runs."""

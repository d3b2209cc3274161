"""The synthetic setting of the theory chapter."""

"""Classifiers, their features and the activations before them."""

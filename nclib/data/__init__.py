"""Images, labels, and which classes share a super-class."""

from nclib.data.datasets import ImageSet, Splits, load

__all__ = ["ImageSet", "Splits", "load"]

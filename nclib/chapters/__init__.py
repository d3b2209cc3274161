"""The book's own analysis: one module a chapter, named as its notebook, and what several share."""

import pandas as pd

for _limit in ("max_rows", "max_columns", "max_colwidth"):
    pd.set_option(f"display.{_limit}", None)  # a number that a table leaves out is nowhere in the book

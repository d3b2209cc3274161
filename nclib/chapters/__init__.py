"""The book's own analysis: one module a chapter, named as its notebook, and what several share."""

"""What the features of any model hide: a test of every class, and a page that shows what it found."""

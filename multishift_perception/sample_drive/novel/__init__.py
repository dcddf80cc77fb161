"""Objects of no known class, each split with kinds of its own."""

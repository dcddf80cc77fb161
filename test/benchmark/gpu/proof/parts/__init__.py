"""One file for each part; each can fail alone."""

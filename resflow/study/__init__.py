"""A study: its file, its settings, its arms, and the trials that it expands into."""

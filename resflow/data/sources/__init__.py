"""The sources of photos: a module a source, and `open`, which finds one by its name."""

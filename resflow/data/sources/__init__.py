"""Where photos come from: a module a source, and `open`, which finds one by its name."""

"""Photos and their labels: sources, downloads, the decoded cache, splits, batches."""

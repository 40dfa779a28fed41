"""The command line: it parses, calls `resflow.workflow`, and prints."""

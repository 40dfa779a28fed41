"""Records to frames: effects with intervals, verdicts, degradation, predictions. Pure pandas and NumPy."""

"""Trained networks, looked into: predictions, exports, activation maps, loss landscapes."""

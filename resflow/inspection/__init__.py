"""The inside of trained networks: predictions, exports, activation maps, loss landscapes."""

"""resflow: ablations of residual networks on flower photos, with intervals that can be trusted."""

__version__ = "0.1.0"

"""Photos and their labels: sources, downloads, the decoded cache, splits."""

from resflow.data.dataset import Dataset, Source, fingerprint, load
from resflow.data.sources import open_source

__all__ = ["Dataset", "Source", "fingerprint", "load", "open_source"]

"""Records: the outcome of a trial on disk, and a run as a folder of them."""

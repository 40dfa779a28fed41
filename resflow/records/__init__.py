"""What trials leave on disk: one record, and a run as a folder of records."""

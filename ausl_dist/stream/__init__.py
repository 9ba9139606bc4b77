"""Shards on storage to batches on a device; see README.md."""

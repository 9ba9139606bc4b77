"""What lies on storage: the clip record, the tar, the index, storage itself, the writer; see
README.md.
"""

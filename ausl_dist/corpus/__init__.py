"""Raw video in, verified shards of aligned face clips out.

README.md is the map; `extract.py` is where to start reading.
"""

"""One run on one rank: the loop, the engine, checkpoints.

Start reading at `loop.py`; see README.md.
"""

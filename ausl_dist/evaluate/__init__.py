"""What a backbone is worth for action units, measured so that nobody can fool themselves.

Start reading at `compare.py`; see README.md.
"""

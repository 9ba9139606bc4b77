"""The bundle of a released backbone: written by `bundle.py`, used through `load.py`; see
README.md.
"""

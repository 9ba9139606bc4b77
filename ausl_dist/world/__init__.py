"""Talking faces that are rendered, so that landmarks, motion and action units are known:
README.md is the map, `render.py` the entry.
"""

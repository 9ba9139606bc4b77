"""Backbones and the joint model: every active objective behind one `forward(batch)`; see
README.md.
"""

"""Every stall, fault and collapse is seen, named and alarmed.

Start reading at `observer.py`.
"""

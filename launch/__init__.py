"""How a job starts: on this machine or on a SLURM cluster.

Imports no torch, so that it answers at once on a login node.
"""

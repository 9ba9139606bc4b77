"""From predictions to numbers: the formulas, the rows of a table with their intervals, the
meters.
"""

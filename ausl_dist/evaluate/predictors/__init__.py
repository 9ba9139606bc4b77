"""Whatever predicts action units from features, pictures or nothing: probes, networks,
fine-tuning, constants.
"""

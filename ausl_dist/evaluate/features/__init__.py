"""From a backbone to a table of frozen features, whoever trained it."""

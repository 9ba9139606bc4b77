"""Who is tested and who is trained on: published splits, and the box that opens once."""

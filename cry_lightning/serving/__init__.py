"""`serve`: a trained classifier for a browser and, over REST, for other programs."""

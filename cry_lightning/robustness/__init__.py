"""How a trained model fares when the sound it hears is disturbed: curves over physical units."""

"""Search for good values of a stage's settings, chosen on validation subjects alone."""

"""Cross-validation of a stage, or of a chain of stages, by subject or any other group."""

"""Command lines and YAMLs made into calls: their help and mistakes cost no import of torch, which takes seconds."""

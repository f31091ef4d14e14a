"""Plans of many stages: cross-validation, label efficiency, search, robustness, published systems."""

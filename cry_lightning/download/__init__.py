"""Public corpora, and published weights: fetched, verified, unpacked and imported."""

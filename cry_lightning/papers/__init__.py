"""A published system trained and tested whole, and its tables beside ours."""

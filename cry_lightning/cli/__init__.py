"""`fit` and `test` of one stage, and what is beside them: precision, run folders, `prepare` and `picture`."""

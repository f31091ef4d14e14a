"""How few labels each encoder needs: many small trainings on nested subsets, one curve per encoder."""

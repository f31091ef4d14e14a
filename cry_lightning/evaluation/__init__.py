"""Everything after training: reads predictions.csv and lineage.json, writes the report. No torch."""

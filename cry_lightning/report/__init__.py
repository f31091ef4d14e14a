"""What a person reads of an evaluation: the table in the terminal, report.md, report.html, checklists, model cards."""

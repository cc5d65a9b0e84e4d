"""`results/report.html`: the results of a run in one file that a person can send to a colleague."""

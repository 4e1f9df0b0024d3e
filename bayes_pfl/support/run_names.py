"""Names of the files and folders in a prediction's output folder."""

CSV_NAME, SUMMARY_NAME = "predictions.csv", "summary.json"
JOURNAL_NAME = "predictions.journal.jsonl"
MAPS, OVERLAYS = "maps", "overlays"

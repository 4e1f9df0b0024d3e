"""Names of the files and folders in a prediction's output folder."""

CSV_NAME, SUMMARY_NAME = "predictions.csv", "summary.json"
JOURNAL_NAME = "predictions.journal.jsonl"
REGIONS_NAME, COCO_NAME = "regions.csv", "coco.json"
MAPS, OVERLAYS, MASKS, LABELME = "maps", "overlays", "region_masks", "labelme"
IMAGE_FOLDERS = (MAPS, OVERLAYS, MASKS, LABELME)
"""With a file for each image."""

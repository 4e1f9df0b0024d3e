"""Names of the files and folders in a prediction's output folder."""

CSV_NAME, SUMMARY_NAME = "predictions.csv", "summary.json"
JOURNAL_NAME = "predictions.journal.jsonl"
REGIONS_NAME, COCO_NAME = "regions.csv", "coco.json"
MAPS, OVERLAYS, MASKS, LABELME = "maps", "overlays", "region_masks", "labelme"
IMAGE_FOLDERS = (MAPS, OVERLAYS, MASKS, LABELME)
"""With a file for each image."""


def page_title(path: str, page: int | None) -> str:
    """A path and its page, for people.

    >>> page_title("a.tif", 3), page_title("a.png", None)
    ('a.tif, page 3', 'a.png')
    """
    return path if page is None else f"{path}, page {page}"


def page_file(path: str, page: int | None) -> str:
    """A path and its page as the name of a file, before its suffix; files sort by page.

    >>> page_file("a.tif", 3), page_file("a.png", None)
    ('a.tif.page00003', 'a.png')
    """
    return path if page is None else f"{path}.page{page:05}"

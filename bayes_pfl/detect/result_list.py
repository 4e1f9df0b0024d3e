"""Several results: a list, and their figures as a table."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from bayes_pfl.detect.results import AnomalyResult


class Results(list[AnomalyResult]):
    """A list of results."""

    def to_table(self) -> Any:
        """One row for each result, with the columns of :meth:`AnomalyResult.to_dict`: a pandas
        DataFrame where pandas is installed, else a list of dictionaries."""
        rows = [result.to_dict() for result in self]
        if find_spec("pandas") is None:
            return rows
        return import_module("pandas").DataFrame(rows)

"""The chapters' helper that glues many numbers in one call."""

import nbformat
from helpers import REPOSITORY
from nbclient import NotebookClient

SOURCE = """
import numpy as np, pandas as pd
from book_glue import glue_all
glue_all({"plain": 3, "numpy": np.float64(0.5), "text": "123, 124"}, "some-")
glue_all(pd.Series([1.5], ["row"]))
"""


def test_a_notebook_beside_it_glues_python_values_and_shows_nothing() -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(SOURCE)])
    client = NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": REPOSITORY / "book"}})
    client.execute()
    glued = {
        output.metadata["scrapbook"]["name"]: output.data["application/papermill.record/text/plain"]
        for output in notebook.cells[0].outputs
    }
    assert glued == {"some-plain": "3", "some-numpy": "0.5", "some-text": "'123, 124'", "row": "1.5"}
    assert all(set(output.data) == {"application/papermill.record/text/plain"} for output in notebook.cells[0].outputs)

"""Some images of the split with the model's strongest calls, so that a reader sees what was judged."""

from __future__ import annotations

import numpy as np

from engine.evaluation.predictions import Predictions
from engine.report import contact_sheet, inspect_data, template
from engine.report.document import Gallery, Paragraph, Picture, Section
from engine.report.run_files import RunFiles
from records import example, picture
from records.errors import CxrError
from records.labels import FINDINGS

PICTURES = 8
_CALLS = 3


def section(run: RunFiles) -> Section | None:
    """Build the section; None without an evaluation or a data set."""
    if not run.shown or run.data_set is None:
        return None
    title = f"Some of the {run.shown.split} images"
    try:
        records = inspect_data.pick(run.data_set, run.shown.split, PICTURES)
    except CxrError as error:
        return Section("images", title, [Paragraph(f"The shards can't be read: {error}.", look="missing")])
    predictions = run.shown.predictions
    rows = {image_id: row for row, image_id in enumerate(predictions.image_ids.tolist())}
    shown = [_picture(record, predictions, rows.get(record.image_id)) for record in records]
    caption = (
        "Chosen to show many findings, not at random. Bold: the findings of the table. Below: the model’s "
        "highest probabilities, before any temperature, coloured where the table agrees."
    )
    return Section("images", title, [Gallery("images", shown, caption)])


def _picture(record: example.Record, predictions: Predictions, row: int | None) -> Picture:
    """Return a record for the page, with the model's strongest calls if it was judged."""
    calls = []
    if row is not None:
        probabilities = predictions.probabilities[row]
        for column in np.argsort(-probabilities, kind="stable")[:_CALLS]:
            calls.append(
                (
                    contact_sheet.in_words(FINDINGS[column]),
                    float(probabilities[column]),
                    bool(record.labels[column]),
                )
            )
    return Picture(
        template.picture_source(picture.decode(record)[..., 0]),
        contact_sheet.findings(record),
        (record.image_id, contact_sheet.circumstances(record)),
        calls,
    )

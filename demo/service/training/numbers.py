"""What was judged and what was said about it, as CSV, JSON and ZIP."""

import base64
import csv
import io
import json
import zipfile
from collections.abc import Mapping, Sequence

from attentdiffernet.words import without_formula

from ..naming import safe_stem
from .answers import standing
from .judging import Photograph, readable
from .state import Own

VERDICT_COLUMNS = ("image", "score", "threshold", "anomalous", "percentile", "said", "error")
ANSWER_COLUMNS = ("image", "said", "score", "threshold", "anomalous")


def verdicts_csv(mine: Own) -> str:
    """A row for each part that was judged, the highest score first; then what could not be read."""
    return _csv(VERDICT_COLUMNS, _verdicts(mine))


def verdicts_json(mine: Own) -> str:
    """The same, with the name of the part and the promise."""
    detector, promised = mine.detector, mine.promised
    told = {
        "part": detector.data.category,
        "detector": detector.key,
        "threshold": detector.calibration.threshold,
        "promised_false_alarm_rate": promised.false_positive_rate,
        "threshold_of_the_promise": promised.threshold,
        "verdicts": _verdicts(mine),
    }
    return json.dumps(told, indent=1, ensure_ascii=False) + "\n"


def verdicts_zip(mine: Own) -> bytes:
    """Both, and the photographs with their maps as the page shows them, the highest score first."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("verdicts.csv", verdicts_csv(mine))
        archive.writestr("verdicts.json", verdicts_json(mine))
        for k, one in enumerate(readable(mine.tests), 1):
            _, encoded = one.picture.split(",", 1)
            archive.writestr(f"maps/{k:02d}-{safe_stem(one.name)}.jpg", base64.b64decode(encoded))
    return stream.getvalue()


def answers_csv(mine: Own) -> str:
    """A row for each part about which something was said, with the threshold as it stands now."""
    threshold = mine.calibration.threshold
    rows = [
        {
            "image": answer.photograph.name,
            "said": _word(answer.fine),
            "score": answer.photograph.score,
            "threshold": threshold,
            "anomalous": answer.photograph.score > threshold,
        }
        for answer in standing(mine.answers)
    ]
    return _csv(ANSWER_COLUMNS, rows)


def _verdicts(mine: Own) -> list[dict[str, object]]:
    broken: list[dict[str, object]] = [{"image": one.name, "error": one.error} for one in mine.tests if one.error]
    return [_verdict(mine, one) for one in readable(mine.tests)] + broken


def _verdict(mine: Own, one: Photograph) -> dict[str, object]:
    answer, threshold = mine.answer(one), mine.calibration.threshold
    return {
        "image": one.name,
        "score": one.score,
        "threshold": threshold,
        "anomalous": one.score > threshold,
        "percentile": mine.percentile(one.score),
        "said": _word(answer.fine) if answer else "",
    }


def _word(fine: bool) -> str:
    return "good" if fine else "defect"


def _csv(columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row.get(column, "")) for column in columns])
    return stream.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, float):
        return f"{value:.9g}"
    return without_formula(value) if isinstance(value, str) else value

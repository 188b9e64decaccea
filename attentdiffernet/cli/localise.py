"""`attentdiffernet localise`."""

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ..words import percent
from .console import bars, say
from .options import Category, Device, ModelDir, RunName, Trusted
from .runs import run_of


def localise(
    model_dir: ModelDir,
    category: Category,
    results: Annotated[Path, typer.Option(help="Results folder to write to.")] = Path("results"),
    run: RunName = None,
    limit: Annotated[
        int | None,
        typer.Option(help="Use only the first images of each defect, by name.", min=1, show_default=False),
    ] = None,
    device: Device = "cpu",
    trusted: Trusted = False,
) -> None:
    """Measure how well maps locate defects: their energy and their maximum inside the masks, pixel AUROC and AUPRO.

    Uses the anomalous images with a mask CATEGORY/ground_truth/DEFECT/NAME_mask.png (or NAME_GT.png, NAME.png) and, if
    present, a mask of the whole part CATEGORY/objects/DEFECT/NAME_mask.png; pixel AUROC and AUPRO also use the normal
    ones. Writes RESULTS/maps/DATASET/CATEGORY/RUN.csv, and RESULTS/pixels/... with the pixels of all images by the
    value of each map; compares with DifferNet if it is there.

    Example: attentdiffernet localise models/bottle-se data/mvtec_ad/bottle
    """
    import pandas as pd

    from ..category import InspectionDataset
    from ..map_measurement import images_with_masks, measure_maps, normal_images
    from ..methods import load
    from ..study.localisation import PixelCounts, aupro, pixel_auroc
    from ..study.maps import summary_of_maps
    from ..study.records import map_path, write_maps, write_pixels

    dataset = InspectionDataset(category)
    masked = images_with_masks(dataset, limit)
    images = masked + normal_images(dataset, limit)
    detector = load(model_dir, device=device, trusted=trusted)
    row = run_of(detector, dataset.category, run, detector.calibration.n_views)
    map_path(results, row.dataset, row.category, row.run)  # rejects a bad name before the work
    rows: list[dict[str, object]] = []
    counts = {method: PixelCounts.none() for method in detector.maps}
    with bars() as progress:
        progress("maps", 0, len(images))
        for done, (found, more) in enumerate(measure_maps(detector, dataset, images), 1):
            rows += found
            counts = {method: counts[method] + more[method] for method in counts}
            progress("maps", done, len(images))
    frame = pd.DataFrame(rows, dtype=object)  # write_maps rejects file names that are not valid text
    out = write_maps(results, row, frame.assign(empty=frame["empty"].astype(int)))
    write_pixels(results, row, counts)
    without = sum(image.label for image in dataset.test) - len(masked if limit is None else images_with_masks(dataset))
    if without:
        say(f"{without} anomalous images have no mask, or one that marks nothing, and were left out")
    summary = summary_of_maps(results, f"{row.dataset}/{row.category}")
    for line in summary[summary["run"] == row.run].to_dict("records"):
        typer.echo(_line(line))
    for method, of_map in counts.items():
        typer.echo(
            f"{method}: pixel AUROC {percent(pixel_auroc(of_map))} %, AUPRO {percent(aupro(of_map))} %, "
            f"{of_map.n_regions} defects"
        )
    typer.echo(
        f"{len(masked)} images with masks and {len(images) - len(masked)} normal ones, 95 % intervals over images. "
        f"Written to {out}"
    )


def _line(line: Mapping[Hashable, Any]) -> str:
    """One method on one target."""
    from ..study.formats import energy_difference_text, energy_text, hit_difference_text, hit_text

    text = (
        f"{line['method']} ({line['map']}) on the {line['target']}: energy {energy_text(line)} times chance, "
        f"maximum {hit_text(line)}, chance {percent(line['chance'])} %"
    )
    if line["n_empty"]:
        text += f", {line['n_empty']} of {line['n_images']} maps all zero"
    if line["n_paired"]:
        text += f"; against {line['against']} {energy_difference_text(line)}, {hit_difference_text(line)}"
    return text

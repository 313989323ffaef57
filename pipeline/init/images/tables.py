"""Tables that name images and give labels: classes, flags, numbers."""

from pathlib import Path

from pipeline.init.images.places import home_of
from pipeline.init.images.proposal import Proposal, Spec
from pipeline.init.label_columns import counted, label_of_column, task_name
from pipeline.sources.separator import SEPARATORS, separator_of
from pipeline.sources.vision.labels import text_of
from pipeline.sources.vision.labels_csv import read_rows

BOXES = ({"xmin", "ymin", "xmax", "ymax"}, {"x1", "y1", "x2", "y2"}, {"bbox"}, {"x", "y", "width", "height"})  # columns


def tables(proposal: Proposal, files: list[Path], photos: dict[Path, list[Path]]) -> None:
    stems = {image.stem for images in photos.values() for image in images}
    for path in files:
        if path.suffix.lower() not in (".csv", ".tsv"):
            continue
        try:
            delimiter = separator_of(text_of(path).partition("\n")[0])
            columns, rows = read_rows(path, delimiter)
        except (OSError, ValueError) as error:
            proposal.leave_out(path, error)
            continue
        table = {name: [cells[at] for _, cells in rows] for at, name in enumerate(columns) if name}
        keys = [name for name, cells in table.items() if sum(Path(cell).stem in stems for cell in cells) > len(cells) / 2]
        folders = {name: folder for name in keys if (folder := home_of(table[name], photos, path))}
        if not folders:
            expected_columns = f"there are {', '.join(columns)}, between {SEPARATORS[delimiter]}"
            absolute = any(Path(cell).is_absolute() for name in keys for cell in table[name])
            advice = "make its absolute paths relative to the folder of the images" if absolute else expected_columns
            proposal.leave_out(path, f"no column names images, relative to a folder; {advice}")
            continue
        if any(corners <= {name.lower().replace("_", "") for name in columns} for corners in BOXES):
            proposal.leave_out(path, "a table of boxes is not read; make it COCO or VOC")
            continue
        key, folder = next(iter(folders.items()))
        if len(table) == 1:
            proposal.leave_out(path, f"one column, {key!r}; expected another with labels, between commas, semicolons or tabs")
            continue
        base = {"csv": str(path), "images": str(folder), "path": key} | ({} if delimiter == "," else {"delimiter": delimiter})
        columns_of_labels(proposal, base, {column: cells for column, cells in table.items() if column != key})
        proposal.note(photos, folder, set(table[key]))


def columns_of_labels(proposal: Proposal, base: Spec, cells_by_column: dict[str, list[str]]) -> None:
    file_name = Path(base["csv"]).name
    flag_columns = [column for column, cells in cells_by_column.items() if set(cells) == {"0", "1"}]
    if len(flag_columns) > 1:
        part = {**base, "label": flag_columns, "gives": "classes", "classes": flag_columns}
        ones = [column for column in flag_columns for cell in cells_by_column.pop(column) if cell == "1"]
        proposal.add("labels", [part], f"{len(flag_columns)} columns of 0 and 1{counted(ones)} in {file_name}")
    for column, cells in cells_by_column.items():
        keys, description = label_of_column(cells)
        if keys:
            part = {**base, "label": column, **keys}
            proposal.add(task_name(column), [part], f"{description} in {file_name}", unseen=keys["gives"] == "number")
        else:
            proposal.said.append(f"{file_name}, column {column}: {description}, left out")

"""Folders of XML files in VOC's form: boxes."""

from pathlib import Path
from xml.etree import ElementTree

from pipeline.init.images.places import home_of
from pipeline.init.images.proposal import Labelled, Proposal, add_folder, by_lists, by_which, with_split
from pipeline.init.label_columns import counted


def voc_folders(proposal: Proposal, files: list[Path], photos: dict[Path, list[Path]], data: Path) -> set[Path]:
    files_by_folder: dict[Path, list[Path]] = {}
    for path in files:
        if path.suffix.lower() == ".xml":
            files_by_folder.setdefault(path.parent, []).append(path)
    used_folders: set[Path] = set()
    tasks: list[Labelled] = []
    for folder, xml_files in files_by_folder.items():
        image_folder = home_of([path.stem for path in xml_files], photos, folder)
        names_by_file = {path: names_in(path) for path in xml_files}
        object_names = [name for names in names_by_file.values() for name in names or []]
        if image_folder and object_names:
            part = with_split({"voc": str(folder), "images": str(image_folder)}, data, folder, image_folder)
            add_folder(tasks, part, object_names, len(xml_files), folder.name)
            proposal.note(photos, image_folder, {path.stem for path in xml_files})
            used_folders.add(image_folder)
            continue
        for path, names_in_file in names_by_file.items():
            no_object = "cannot be read as XML" if names_in_file is None else "no <object> with a <name>"
            proposal.leave_out(path, no_object if image_folder else "no image has its name")
    for parts, object_names, file_count, folder_names in tasks:
        class_names = sorted(set(object_names))
        description = f"VOC boxes of {len(class_names)} classes{counted(object_names)} in {file_count} files of {folder_names}"
        parts = [part | {"classes": class_names} for one in parts for part in by_lists(one, Path(one["voc"]), "Main")]
        proposal.add("detection", parts, description + by_which(parts))
    return used_folders


def names_in(path: Path) -> list[str] | None:
    """Names of the objects in an XML file in VOC's form; None if it is not XML."""
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError):
        return None
    return [(item.findtext("name") or "").strip() for item in root.iter("object") if item.findtext("name")]

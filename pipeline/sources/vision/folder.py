"""An image folder: the name of each subfolder is the class of the images below it."""

from pipeline.sources.vision.labels import Found, ImageFolder, Part, listed, no_class


def read_folder(part: Part) -> Found:
    assert part.folder
    images = ImageFolder(part.folder)
    found = Found()
    owner = {image: image.relative_to(part.folder).parts[0] for image in listed(part, images, found.bad)}
    loose = [image for image in sorted(owner) if image.parent == images.path]
    found.bad += [f"{image}: lies in no class's folder; expected {part.folder}/<class>/{image.name}" for image in loose]
    inside = sorted(owner.keys() - set(loose))
    found.classes = part.names or sorted({owner[image] for image in inside})
    for image in inside:
        if owner[image] in found.classes:
            found.labels.append((image, owner[image]))
        else:
            found.bad.append(f"{image}: {no_class(owner[image], found.classes)}")
    return found

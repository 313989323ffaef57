"""An image folder: the name of each subfolder is the class of the images below it."""

from pipeline.sources.vision.labels import Found, ImageFolder, Part, listed, no_class


def read_folder(part: Part) -> Found:
    assert part.folder
    images = ImageFolder(part.folder)
    found = Found()
    class_by_image = {image: image.relative_to(part.folder).parts[0] for image in listed(part, images, found.bad)}
    loose_images = [image for image in sorted(class_by_image) if image.parent == images.path]
    found.bad += [f"{image}: lies in no class's folder; expected {part.folder}/<class>/{image.name}" for image in loose_images]
    inner_images = sorted(class_by_image.keys() - set(loose_images))
    found.classes = part.names or sorted({class_by_image[image] for image in inner_images})
    for image in inner_images:
        if class_by_image[image] in found.classes:
            found.labels.append((image, class_by_image[image]))
        else:
            found.bad.append(f"{image}: {no_class(class_by_image[image], found.classes)}")
    return found

"""The `stillroom` command: everything that is not a stage."""

import json
import shlex
import sys
import time
from pathlib import Path

import click
from rich.filesize import decimal
from rich.table import Table

from pipeline.manners import one_line_errors, printable, show
from pipeline.project.dependencies import check_classes
from pipeline.project.lineage import open_project, sync
from pipeline.project.problems import no_such
from pipeline.project.sweep_problems import check_grid
from pipeline.stores.inspection import describe, differences, flat
from pipeline.stores.store import open_store
from pipeline.sweeps.promotion import promote


@click.group()
def main() -> None:
    """Cross-task knowledge distillation from cached teachers; `dvc repro` runs the pipeline itself."""


@main.command()
@click.argument("folder", type=Path)
@click.option("--data", type=Path, help="A file or folder of images, texts or interactions; by default FOLDER.")
@click.option("--domain", type=click.Choice(["vision", "text", "recsys"]), help="By default guessed from the data.")
@one_line_errors
def init(folder: Path, data: Path | None, domain: str | None) -> None:
    """Make a project in FOLDER for your own data: inspect the data, propose tasks and settings, write params.yaml."""
    from pipeline.init.start import start
    from pipeline.planning import lines

    draft, plan = start(folder, data or folder, domain)
    for line in draft.said:
        click.echo(f"found: {line}")
    for line in draft.bad[:3]:
        click.echo(f"cannot be used: {line}")
    if draft.bad:
        click.echo(f"{len(draft.bad)} labels cannot be used: fix them, or set prepare.source.skip_bad: true in params.yaml")
    for line in lines(plan):
        click.echo(f"plan: {line}")
    file_names = f"{folder / 'params.yaml'}, {folder / 'dvc.yaml'}"
    click.echo(f"written: {file_names}; read the first, then: cd {shlex.quote(str(folder))} && dvc repro")


@main.command("sync")
@one_line_errors
def sync_command() -> None:
    """Write into dvc.yaml what DVC cannot derive from params.yaml: lists of stores, scores and code."""
    changes = sync()
    params = open_project()
    check_classes(params)
    check_grid(params)
    for stage, lines in changes.items():
        code_lines = [line for line in lines if line.endswith(".py")]
        other_lines = [line for line in lines if line not in code_lines and "{" not in line]  # the rest is DVC's wiring
        click.echo(
            f"{stage}: {', '.join([*other_lines, *([f'{len(code_lines)} files of code'] if code_lines else [])]) or 'wiring'}"
        )
    click.echo("dvc.yaml is up to date" if not changes else "dvc.yaml written")


@main.command()
@click.option("--data", type=Path, default=Path("data"), help="Where the stores will be.")
@one_line_errors
def plan(data: Path) -> None:
    """Estimate the disk space and time this project needs, before any work. Exit code 1 if the disk is too small."""
    from pipeline.planning import lines, make_plan

    planned = make_plan(open_project(), data)
    table = Table("store", "field", "row", "dtype", "codec", "bytes a row", "size")
    for f in planned.fields:
        row = " x ".join(map(str, f.field.shape)) or "1"
        sizes = rounded(f.row_bytes), decimal(round(planned.field_bytes(f)))
        table.add_row(f.store, f.name, row, f.field.kind, f.field.codec, *sizes)
    show(table)
    for line in lines(planned):
        click.echo(line)
    if planned.bytes > planned.free:
        raise ValueError(
            f"{data}: the disk will not hold it: free {decimal(round(planned.bytes - planned.free))} more, or choose narrower "
            f"recipes in extract and fuse (dtype qint8, codec zstd), or fewer rows or views in prepare"
        )


@main.command()
@click.argument("teacher")
@one_line_errors
def taps(teacher: str) -> None:
    """List where features of a teacher can be tapped: paths for `taps`, and each one's shape on this project's inputs."""
    from pipeline.teachers.taps import taps_of

    params = open_project()
    if teacher not in params.teachers:
        raise ValueError(f"teachers: {no_such(teacher, params.teachers, 'teacher')}")
    table = Table("tap", "module", "feature")
    for tap in taps_of(params, teacher):
        table.add_row(tap.path, tap.kind, tap.row if isinstance(tap.row, str) else " x ".join(map(str, tap.row)))
    show(table)


@main.command()
@click.argument("store", type=Path)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@one_line_errors
def inspect(store: Path, as_json: bool) -> None:
    """What is in a store, where it comes from, how big it is."""
    summary = describe(open_store(store))
    if as_json:
        click.echo(json.dumps(summary, indent=1, sort_keys=True))
        return
    click.echo(f"{summary['path']}: {summary['rows']} rows in shards of {summary['shard_rows']}, {decimal(summary['bytes'])}")
    click.echo(f"digest {summary['digest']}, format {summary['format']}")
    for key, value in flat(summary["identity"]).items():
        click.echo(printable(f"  {key}: {value}"))
    table = Table("field", "row", "dtype", "codec", "size", "of decoded", "bytes a row")
    for name, f in summary["fields"].items():
        row = " x ".join(map(str, f["shape"])) or "1"
        sizes = decimal(f["bytes"]), f"{f['share_of_decoded']:.2f}", rounded(f["bytes"] / summary["rows"])
        table.add_row(name, row, f["dtype"], f["codec"], *sizes)
    show(table)


@main.command()
@click.argument("store", type=Path)
@click.option("--against-teacher", "weights", type=Path, help="A teacher's weights (.safetensors), to run again.")
@click.option("--inputs", type=Path, default=Path("data/knowledge/transfer.zarr"), help="The inputs it was run on.")
@click.option("--rows", type=click.IntRange(1), default=512, help="How many rows to sample.")
@one_line_errors
def verify(store: Path, weights: Path | None, inputs: Path, rows: int) -> None:
    """Check every byte of a store against the digests it was published with.

    With --against-teacher, also check its values on sampled rows against the live teacher. Exit code 1 if any row differs.
    """
    opened = open_store(store)
    start = time.perf_counter()
    opened.verify()
    seconds, size = time.perf_counter() - start, describe(opened)["bytes"]
    files = len(opened.attributes["files"])
    click.echo(f"{store}: whole: {files} files, {decimal(size)} in {seconds:.1f} s; digest {opened.digest}")
    if weights:
        import torch  # two seconds, which the other commands do without

        from pipeline.teachers.agreement import against_teacher

        agreements = list(against_teacher(opened, open_store(inputs), weights, rows, torch.device("cpu")))
        for agreement in agreements:
            share = (
                f"{agreement.differing} of {agreement.rows} rows ({agreement.differing / agreement.rows:.1%}) differ from the "
                "live teacher's"
            )
            tolerance = f"beyond rounding, which moves a value by up to {agreement.allowed:.2g}"
            click.echo(f"{agreement.field}: {share} {tolerance}; the furthest is off by {agreement.furthest:.2g}")
        sys.exit(any(agreement.differing for agreement in agreements))


@main.command()
@click.argument("a", type=Path)
@click.argument("b", type=Path)
@one_line_errors
def diff(a: Path, b: Path) -> None:
    """Where two stores differ: identity, rows, fields, values. Exit code 1 if they do."""
    lines = list(differences(open_store(a), open_store(b)))
    for line in lines:
        click.echo(printable(line))
    click.echo("the stores differ" if lines else "the same content")
    sys.exit(bool(lines))


@main.command("predict")
@click.argument("student")
@click.argument("given", metavar="INPUT")
@click.option("--out", type=Path, default=Path("predictions"), help="Where pictures go.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Which of the student's seeds answers.")
@click.option("--data", type=Path, default=Path("data"), help="Where students and splits are.")
@one_line_errors
def predict_command(student: str, given: str, out: Path, seed: int, data: Path) -> None:
    """A student's answers for INPUT (an image or a folder of images, a line of text, a user), in words and drawn."""
    from pipeline.deployment.prediction import predict

    params = open_project()
    for line in predict(params, data, student, seed, given, out):
        click.echo(line)


@main.command("export")
@click.argument("student")
@click.option("--out", type=Path, help="Folder to write; by default exports/<student>.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Which of the student's seeds is exported.")
@click.option("--int8", is_flag=True, help="Also export in 8 bits, weights and activations.")
@click.option("--data", type=Path, default=Path("data"), help="Where students, splits and scores are.")
@one_line_errors
def export_command(student: str, out: Path | None, seed: int, int8: bool, data: Path) -> None:
    """Export a student as safetensors and ONNX, checked against each other, with a model card."""
    from pipeline.deployment.export import export

    params = open_project()
    folder = out or Path("exports") / student
    for exported in export(params, data, student, seed, folder, int8):
        measurements = f"off by at most {exported.furthest:.1e} of the largest logit, {exported.latency_ms:.2f} ms a row"
        on_val = "".join(
            f"; {task} {of_file:.3f} on val, {of_torch:.3f} as torch" for task, (of_torch, of_file) in exported.on_val.items()
        )
        click.echo(f"{exported.file}: {measurements}{on_val}")
    click.echo(f"{folder / 'README.md'}: the model card")


@main.command("promote")
@click.argument("name")
@click.option("--as", "new_name", help="Its name in params.yaml; by default as on the leaderboard.")
@click.option("--leaderboard", type=Path, default=Path("data/sweep/leaderboard.json"))
@one_line_errors
def promote_command(name: str, new_name: str | None, leaderboard: Path) -> None:
    """Make a student of the sweep one of the students in params.yaml, to be distilled on every seed and reported."""
    new_name = new_name or name
    promote(name, new_name, leaderboard, Path("params.yaml"))
    click.echo(f"params.yaml: students.{new_name} written; next: stillroom sync, then dvc repro evaluate@{new_name}")


def rounded(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 else f"{number:.1f}"


if __name__ == "__main__":
    main()

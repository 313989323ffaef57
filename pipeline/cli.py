"""The `stillroom` command: what is no stage."""

import click

from pipeline.lineage import sync
from pipeline.manners import one_line_errors


@click.group()
def main() -> None:
    """Cross-task knowledge distillation from cached teachers; `dvc repro` runs the pipeline itself."""


@main.command("sync")
@one_line_errors
def sync_command() -> None:
    """Write into dvc.yaml what DVC cannot derive from params.yaml: lists of stores, scores and code."""
    changes = sync()
    for stage, lines in changes.items():
        for line in lines:
            click.echo(f"{stage}: {line}")
    click.echo("dvc.yaml is up to date" if not changes else "dvc.yaml written")


if __name__ == "__main__":
    main()

"""distill@student: train one student, on several seeds, from one store and nothing else."""

from pathlib import Path

import click

from pipeline.atomic import write_json
from pipeline.checkpoints import input_shapes, save_network
from pipeline.cost import measured
from pipeline.manners import one_line_errors, progress
from pipeline.project.lineage import open_project
from pipeline.project.sections import KNOWLEDGE
from pipeline.stores.store import sha256
from pipeline.stores.trust import open_verified
from pipeline.training.distilling import check_foreign, distil, extended


@click.command()
@click.argument("name")
@click.option("--store", type=Path, required=True)
@click.option("--val", type=Path, required=True)
@click.option("--students", type=Path, required=True)
@click.option("--out", type=Path, required=True)
@click.option("--cost", type=Path, required=True)
@one_line_errors
def main(name: str, store: Path, val: Path, students: Path, out: Path, cost: Path) -> None:
    params = open_project()
    student, seeds = params.student(name), range(params.distill.seeds)
    students_and_seeds = [(student, seed) for seed in seeds]
    knowledge, val_store = open_verified(store), open_verified(val)
    if params.foreign(student.reads):
        check_foreign(knowledge, val_store, student.tasks)
    groups = [[task] for task in student.tasks] if student.separate else [student.tasks]
    updates = len(seeds) * len(groups) * (student.updates + student.head_updates)
    curves = []
    with measured(cost) as ledger, progress(f"distill {name}", total=updates, unit="updates") as advance:
        for group in groups:
            networks_and_curves = distil(params, students_and_seeds, group, knowledge, val_store, advance, finished=students)
            for seed, (network, curve) in zip(seeds, networks_and_curves, strict=True):
                if not curve:
                    raise ValueError(f"students.{name}: seed {seed} diverged: a loss is not finite; lower learning_rate")
                curves += [{"seed": seed, **point} for point in curve]
                path = out / f"seed-{seed}" / f"{'+'.join(group)}.safetensors"
                about = {"learned_from": knowledge.digest}
                if student.extends:
                    about["began_as"] = sha256(extended(students, student.extends, seed))
                save_network(path, network, student.encoder, params.tasks, input_shapes(knowledge), **about)
        knowledge_rows = student.updates * student.batch_size if student.weights.keys() & KNOWLEDGE else 0
        ledger |= {"updates": updates, "knowledge_rows": len(seeds) * len(groups) * knowledge_rows}
    write_json(out / "curve.json", curves)


if __name__ == "__main__":
    main()

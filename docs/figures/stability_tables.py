"""The tables of docs/stability.md and docs/rivals.md from a store in which the sweeps have run:

    python docs/figures/stability_tables.py STORAGE

prints those whose sweeps are there, as Markdown."""

import sys
from collections.abc import Iterable, Sequence

import kacflow as kf
import pandas as pd
from scipy.stats import spearmanr

PATHS = ("kac", "flow_matching", "diffusion")
SHORT = {
    "path.kind": "path",
    "path.damping": "damping",
    "path.speed": "speed",
    "sampling.guidance": "guidance",
    "sampling.solver": "solver",
    "sampling.steps": "steps",
    "sampling.model": "model",
    "distill.kind": "distiller",
    "distill.guidance": "distilled",
    "teacher.lr": "lr",
    "teacher.precision": "arithmetic",
    "teacher.clip": "clip",
}
NOTHING = pd.Series(dtype=float)
GUIDED, CHAIN = ["guidance"], ["distilled", "steps"]


def main(storage: str) -> None:
    """Print every table whose sweep is in the store."""
    for name, tables in {
        "rivals": rivals,
        "stability": sampling,
        "stability-students": students,
        "stability-training": training,
        "stability-width": width,
        "stability-sharp": sharp,
        "toy-2d": plane,
    }.items():
        try:
            run = kf.open(name, storage=storage)
        except ValueError:
            print(f"\n(no sweep {name})")
            continue
        print(f"\n## {run.name}\n")
        try:
            tables(run)
        except ValueError as error:
            print(f"(it has not got so far: {error})")


def results(run: kf.Run) -> pd.DataFrame:
    """The results with short names; means over the seeds stand in `summary`."""
    return run.results.rename(columns=SHORT)


def rivals(run: kf.Run) -> None:
    """FID by both extractors and recall, by distiller, steps and path; what costs the same; gaps."""
    table = results(run)
    by_path(table, ["distiller", "steps"], ["fid", "fid_second"])
    by_path(table, ["distiller", "steps"], ["recall", "precision"])
    for other in ("flow_matching", "diffusion"):
        counted(run.versus("path", other), ["distill"], other)
    known = table.dropna(subset=["gap_bound"])
    rows = []
    for steps, part in [("all", known), *known.groupby("steps")]:
        ends, way, bound = (part[f"gap_{name}"] for name in ("at_ends", "on_the_way", "bound"))
        rows.append(
            [
                steps,
                len(part),
                *(f"{spearmanr(a, b).statistic:.3f}" for a, b in ((ends, way), (way, bound), (ends, part["fid"]))),
                f"{(way / bound).max():.2f}",
            ]
        )  # fmt: skip
    heads = ("steps", "students", "ends, way", "way, bound", "ends, FID", "largest way / bound")
    markdown(heads, rows)


def sampling(run: kf.Run) -> None:
    """Teachers by guidance, and by solver and steps."""
    table = results(run)
    at_twenty = table[(table.solver == "ab2") & (table.steps == 20)]
    by_path(at_twenty, GUIDED, ["fid", "fid_second", "recall"])
    by_path(at_twenty, GUIDED, ["out_of_range_fraction", "largest_velocity"])
    by_path(table[table.guidance == 1], ["solver", "steps"], ["fid", "fid_second"])
    violations = table["light_cone_violations"].dropna()
    print(f"light cone: {len(violations)} Kac trials, largest share {violations.max():g}\n")
    for other in ("flow_matching", "diffusion"):
        for keys in (GUIDED, ["solver", "steps"]):
            counted(run.versus("path", other), keys, other)
        counted(run.versus("path", other, metric="recall"), GUIDED, f"{other}, recall")


def students(run: kf.Run) -> None:
    """Students of guided teachers."""
    by_path(results(run), CHAIN, ["fid", "fid_second", "recall"])
    by_path(results(run), CHAIN, ["out_of_range_fraction", "gap_on_the_way"])


def training(run: kf.Run) -> None:
    """Teachers trained at large rates: FID, the loss at the end, and those that failed."""
    table = results(run)
    losses = run.losses.groupby("key")["loss"].agg(lambda loss: loss.tail(20).mean())
    table["loss"] = table["teacher_stage"].map(losses)
    table["clip"] = table["clip"].map(lambda clip: "none" if pd.isna(clip) else f"{clip:g}")
    by_path(table, ["lr", "arithmetic", "clip"], ["fid", "fid_second", "loss"])
    print(f"trials: {table.status.value_counts().to_dict()}\n")


def width(run: kf.Run) -> None:
    """Priors of several widths."""
    table = results(run)
    table["width"] = (table.speed / table.damping**0.5).round(2)
    rows = []
    for keys, part in table.groupby(["path", "width", "damping", "steps"], sort=True):
        rows.append([*keys, *(spread(part[name]) for name in ("fid", "fid_second", "recall"))])
    markdown(("path", "width", "damping", "steps", "FID", "second", "recall"), rows)


def sharp(run: kf.Run) -> None:
    """Digits in black and white."""
    by_path(results(run), ["solver", "steps"], ["fid", "fid_second"])
    by_path(results(run), ["solver", "steps"], ["recall", "out_of_range_fraction"])
    counted(run.versus("path", "flow_matching"), ["steps"], "flow_matching")
    counted(run.versus("path", "diffusion"), ["steps"], "diffusion")


def plane(run: kf.Run) -> None:
    """Nine narrow modes in the plane."""
    by_path(results(run), ["model", "steps"], ["w2", "log_likelihood"])


def by_path(table: pd.DataFrame, keys: Sequence[str], measures: Sequence[str]) -> None:
    """The measures of each path side by side, a row for each value of `keys`."""
    rows = []
    for values, part in table.groupby(list(keys), sort=True):
        cells = [
            part[part.path == path].get(name, NOTHING)  # of a sweep that has just begun
            for name in measures
            for path in PATHS
        ]
        rows.append([*values, *map(spread, cells)])
    markdown([*keys, *(f"{name}, {path}" for name in measures for path in PATHS)], rows)


def counted(found: pd.DataFrame, keys: Sequence[str], other: str) -> None:
    """How often Kac is better, worse or a tie."""
    own = found[found.path == "kac"]
    counts = own.groupby([*keys, "result"]).size().unstack(fill_value=0)
    print(f"kac against {other}:\n")
    rows = [
        [*(index if isinstance(index, tuple) else (index,)), *row]
        for index, row in zip(counts.index, counts.to_numpy(), strict=True)
    ]
    markdown([*keys, *counts.columns], rows)


def spread(values: pd.Series) -> str:
    """The mean, and the standard deviation where there are several seeds."""
    known = values.dropna()
    if not len(known):
        return "none" if len(values) else ""
    if len(known) == 1:
        return f"{known.iloc[0]:.3g}"
    return f"{known.mean():.3g} ± {known.std():.2g}"


def markdown(heads: Iterable[object], rows: Iterable[Sequence[object]]) -> None:
    """Print a table."""
    heads = list(heads)
    print("| " + " | ".join(map(str, heads)) + " |")
    print("|" + "---|" * len(heads))
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |")
    print()


if __name__ == "__main__":
    main(sys.argv[1])

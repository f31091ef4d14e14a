"""Run the benchmarks of speed in under 15 minutes, and write one table: `make benchmark`.

.venv/bin/python benchmarks/everything.py                          writes benchmarks/table.json and benchmarks/table.md
.venv/bin/python benchmarks/everything.py --check                  compares with the table that is there

A ratio is how many times as fast as the peer we are, a share how much of what is possible, both within one run: so they
compare between machines of one kind, and little between kinds. `--check` ends with 1 where a ratio fell by over a
third, or a share where there is no peer.
"""

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from common import FILE

HERE = Path(__file__).parent
TABLE = HERE / "table.json"
SCRIPTS = {  # with arguments that make them short
    "cache": ["--clips", "500", "--rows", "10000", "--repeats", "3"],
    "ntxent": ["--repeats", "5"],
    "views": ["--epochs", "1"],
    "epoch": ["--epochs", "1"],
    "simclr_epoch": ["--epochs", "1"],
}
LIBRARIES = ("torch", "lightning", "numpy", "librosa", "soundfile", "h5py")
ALLOWED = 2 / 3  # of the table's ratio
LIMIT_S = 170.0  # of one script


def machine() -> dict[str, Any]:
    """What the ratios depend on beside the code."""
    found = torch.cpu.get_capabilities()
    kind = f"{found.get('cpu_name', '?')}, {torch.backends.cpu.get_cpu_capability()}, {os.cpu_count()} cores"
    versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
    return {"processor": kind, "load": round(os.getloadavg()[0], 1), "versions": versions}


def run(names: list[str], limit_s: float) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of some scripts, each in a process of its own; and which of them were not done in time, or failed."""
    left_out = []
    with TemporaryDirectory() as folder:
        file = Path(folder) / "rows"
        file.touch()
        environment = {**os.environ, "OMP_NUM_THREADS": "1", FILE: str(file)}  # others are of one core, too
        for name in names:
            command = [sys.executable, str(HERE / f"{name}.py"), *SCRIPTS[name]]
            try:
                subprocess.run(command, env=environment, check=True, timeout=limit_s)
            except subprocess.SubprocessError as error:
                left_out.append(name)
                print(f"{name}: left out, {error}", file=sys.stderr)
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()], left_out


def as_markdown(table: dict[str, Any]) -> str:
    about = table["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    lines = [
        f"{about['processor']}; load average {about['load']}; {versions}.",
        "",
        "| what | peer | times as fast | limit | share of it |",
        "|---|---|---|---|---|",
    ]
    for row in table["rows"]:
        ratio = f"{row['ratio']:.2f}" if "ratio" in row else ""
        share = f"{row['share']:.2f}" if "share" in row else ""
        lines.append(f"| {row['name']} | {row.get('peer', '')} | {ratio} | {row.get('limit', '')} | {share} |")
    if table["left_out"]:
        lines += ["", f"Not run, or not done in time: {', '.join(table['left_out'])}."]
    return "\n".join(lines) + "\n"


def fallen(before: list[dict[str, Any]], now: list[dict[str, Any]]) -> list[str]:
    """Which ratios to the peer, or shares of the limit without one, are less than two thirds of before, in words."""
    known = {row["name"]: row for row in before}
    found = []
    for row in now:
        key, what = ("ratio", f"times as fast as {row['peer']}") if "peer" in row else ("share", f"of {row['limit']}")
        if row[key] < ALLOWED * known.get(row["name"], {}).get(key, 0.0):
            found.append(f"{row['name']}: {row[key]:.2f} {what}, in the table {known[row['name']][key]:.2f}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scripts", nargs="*", metavar="SCRIPT", help=f"of {', '.join(SCRIPTS)} (default: all)")
    parser.add_argument("--check", action="store_true", help="compare with the table, and write nothing")
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds of one script (default: %(default)s)")
    arguments = parser.parse_args()
    if unknown := set(arguments.scripts) - set(SCRIPTS):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    about = machine()  # the load of before
    asked = arguments.scripts or list(SCRIPTS)
    rows, left_out = run(asked, arguments.limit)
    table = {
        "machine": about,
        "rows": rows,
        "left_out": [name for name in SCRIPTS if name in left_out or name not in asked],
    }
    print(as_markdown(table))
    if not arguments.check:
        TABLE.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
        TABLE.with_suffix(".md").write_text(as_markdown(table), encoding="utf-8")
        return 0
    before = json.loads(TABLE.read_text(encoding="utf-8"))
    if before["machine"]["processor"] != about["processor"]:
        print(f"the table is of another processor ({before['machine']['processor']}), so nothing is compared")
        return 0
    found = fallen(before["rows"], table["rows"])
    print("\n".join(found) if found else "no ratio fell by more than a third")
    return bool(found or left_out)


if __name__ == "__main__":
    sys.exit(main())

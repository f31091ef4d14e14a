"""The command line: `python -m cry_lightning COMMAND ...`, each command made from a typed function of the API."""

import ctypes
import logging
import os
import sys
from collections.abc import Callable

import cry_lightning
from cry_lightning.commands.arguments import find_shipped, first_sentence, parse
from cry_lightning.console import Interrupted, UserError, check_working_folder, did_you_mean, print_any_name

DONE_IN_PART = 3  # exit code: some recordings could not be used, and are listed; the result of the others is written
NOT_READ = 141  # exit code, as of whatever SIGPIPE ends
# Bytes that glibc asks the system for by themselves (the most that it allows), and that it keeps when they are free.
MEMORY = {"MALLOC_MMAP_THRESHOLD_": (-3, 1 << 25), "MALLOC_TRIM_THRESHOLD_": (-1, 1 << 30)}
COMMANDS = {name.rstrip("_").replace("_", "-"): name for name in cry_lightning.COMMANDS}


def main(args: list[str] | None = None) -> int:
    """Run one command; a user's mistake is one line on stderr and exit code 2 (`--debug` shows its traceback)."""
    print_any_name()
    args = list(sys.argv[1:] if args is None else args)
    debug = "--debug" in args
    args = [arg for arg in args if arg != "--debug"]
    keep_freed_memory()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin lose their turn where others work, too
    logging.basicConfig(format="%(message)s")
    is_first = os.environ.get("LOCAL_RANK", "0") == "0"  # of processes that train together, and would say the same
    logging.getLogger("cry_lightning").setLevel(logging.INFO if is_first else logging.WARNING)
    try:
        check_working_folder()
        result = run(args[0] if args else "--help", find_shipped(args[1:]))
    except UserError as error:
        if debug:
            raise
        print(f"cry_lightning: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever read what is printed has enough of it, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would say so at its end
        return NOT_READ
    except OSError as error:
        if debug:
            raise
        where = f"{error.filename}: " if error.filename is not None else ""
        print(f"cry_lightning: error: {where}{error.strerror or error}", file=sys.stderr)
        return 2
    except Interrupted as stop:
        print(f"cry_lightning: {stop.message}", file=sys.stderr)
        return int(stop.code or 0)
    except KeyboardInterrupt as stop:
        print(f"cry_lightning: {str(stop) or 'stopped; give the same command again'}", file=sys.stderr)
        return 130
    return DONE_IN_PART if getattr(result, "attrs", {}).get("failed") else 0


def keep_freed_memory() -> None:
    """Have glibc use freed memory again, here and in the processes that follow, unless the environment says otherwise.

    Otherwise it hands a batch's tensors back, and the system clears as many pages anew, for a quarter of a step.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # another system, or another C library
        return
    tuned = os.environ.get("GLIBC_TUNABLES", "")
    for variable, (parameter, n_bytes) in MEMORY.items():
        if variable not in os.environ and "glibc.malloc." not in tuned:
            mallopt(parameter, n_bytes)
            os.environ[variable] = str(n_bytes)


def run(command: str, args: list[str]) -> object:
    """Run a command, and return what its function does; `--help` and `--version` are printed.

    Raises:
        UserError: there is no such command, or a mistake in its arguments.
    """
    if command in ("-h", "--help", "--version"):
        print(f"cry_lightning {cry_lightning.__version__}" if command == "--version" else table())
        return None
    if command not in COMMANDS:
        hint = did_you_mean([command], list(COMMANDS)) or f"; the commands are {', '.join(COMMANDS)}"
        raise UserError(f"unknown command {command!r}{hint}")
    function = function_of(command)
    if command in ("fit", "test"):  # the parser of a stage is made of its classes
        from cry_lightning.api.models import run_stage

        return run_stage(command, args)
    return function(**parse(function, args))


def function_of(command: str) -> Callable[..., object]:
    """The function of the API."""
    found: Callable[..., object] = getattr(cry_lightning, COMMANDS[command])
    return found


def table() -> str:
    """Every command with one line on what it does."""
    width = max(map(len, COMMANDS))
    summaries = {command: first_sentence(function_of(command).__doc__ or "") for command in COMMANDS}
    rows = "\n".join(f"  {command:<{width}}  {text[0].lower()}{text[1:]}" for command, text in summaries.items())
    usage = "python -m cry_lightning COMMAND [--help] [--debug] ..., or cry-lightning COMMAND ..."
    return (
        f"{cry_lightning.__doc__}\n\nusage: {usage}\n\n{rows}\n\n"
        "`COMMAND --help` has details; `--debug` shows the traceback of an error."
    )


if __name__ == "__main__":
    sys.exit(main())

"""YAML files that commands name: found, read with the files that they name, and refused in one line."""

from pathlib import Path
from typing import Any

import yaml

from cry_lightning.errors import UserError
from cry_lightning.wording import ConfigError, one_line

WHOLE_SECTIONS = ("config", "data", "model")  # options in whose place a YAML may stand
ENDINGS = (".yaml", ".yml")
DEEPEST = 50  # levels of tables and files
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast


def check_there(path: str, key: str) -> None:
    """Refuse a config that is not there.

    Raises:
        UserError: there is no such file.
    """
    elsewhere = path.startswith("~") or "://" in path  # where the command itself knows to look
    if not (elsewhere or Path(path).exists()):
        raise UserError(f"--{key}: {path}: no such file; give a YAML such as configs/finetune.yaml")


def read_config(path: str, key: str) -> dict[str, Any]:
    """What a YAML holds, files that it names by paths relative to itself read in their places.

    Raises:
        UserError: it is missing, not text, or not YAML with keys in it.
    """
    if path.startswith("~"):
        path = str(Path(path).expanduser())
    if path.startswith("file://"):
        path = path.removeprefix("file://")
    return _read(Path(path), key)


def _read(path: Path, key: str) -> dict[str, Any]:
    unread = f"{path}: no such file, or not YAML with keys in it"
    if key == "config" and path.exists():
        unread = "no such file, or not YAML with keys in it"
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), LOADER)
    except OSError as error:
        raise ConfigError(key, unread) from error
    except UnicodeDecodeError as error:
        raise UserError("config: a file that should be YAML is not text; is it a checkpoint?") from error
    except yaml.YAMLError as error:
        if key != "config":
            raise ConfigError(key, unread) from error
        reason = str(error).replace('in "<unicode string>", ', "")
        raise UserError(one_line(f"Problems parsing config: {reason}")) from error
    if not isinstance(content, dict):
        raise ConfigError(key, unread)
    return Reader(key).whole(content, path.parent)


class Reader:
    """Puts files in the places where a YAML names them.

    Args:
        key: of the YAML, for messages.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        self.done: dict[tuple[int, Path], Any] = {}  # a YAML may hold the same table a billion times
        self.kept: list[Any] = []  # so that no other table gets the number of one that is done

    def whole(self, value: Any, folder: Path, depth: int = 0) -> Any:
        """A value of a YAML in `folder`, with what it names.

        Raises:
            ConfigError: it names itself, or holds itself.
        """
        if depth > DEEPEST:
            raise ConfigError(self.key, f"more than {DEEPEST} levels; does a YAML name itself?")
        if isinstance(value, dict):
            place = id(value), folder
            if place not in self.done:
                self.kept.append(value)
                self.done[place] = {name: self.whole(one, folder, depth + 1) for name, one in value.items()}
            return self.done[place]
        if isinstance(value, str) and value.endswith(ENDINGS) and (folder / value).is_file():
            try:
                content = yaml.load((folder / value).read_text(encoding="utf-8"), LOADER)
            except (UnicodeDecodeError, yaml.YAMLError):
                return value
            return self.whole(content, (folder / value).parent, depth + 1)
        return value


def refuse_recordings(key: str, path: str) -> None:
    """Refuse recordings where a data YAML is wanted.

    Raises:
        ConfigError: telling how they are given.
    """
    if not path.endswith(ENDINGS) and Path(path).exists():
        own = f"--data configs/data/own.yaml --data.corpus.init_args.path={path}"
        raise ConfigError(key, f"{path} is not a YAML; for recordings that lie there: {own}")

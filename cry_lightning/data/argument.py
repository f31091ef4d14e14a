"""The data that a command names by `--data`: a data YAML, or simply where recordings lie."""

import warnings
from collections.abc import Sequence
from pathlib import Path

from cry_lightning.commands.arguments import check_name
from cry_lightning.commands.messages import OneLineParser, instantiation_error
from cry_lightning.commands.stage import taken_out
from cry_lightning.data.datamodule import CryDataModule
from cry_lightning.trust.configs import resolving

AT_A_PATH = (  # divided as `make` does it, by configs/data/own.yaml
    "--data.corpus=cry_lightning.corpora.corpus_at",
    "--data.feature=cry_lightning.features.LogMel",
    "--data.split.test=0.3",
)


def open_data(given: str, overrides: Sequence[str] = ()) -> CryDataModule:
    """The datamodule of a data YAML; or of a folder or manifest.csv, whole recordings under the default front end.

    Args:
        given: which of these.
        overrides: further arguments as of `fit`, e.g. `--data.corpus.init_args.target=age`.

    Raises:
        UserError: there is no such thing, or an argument does not fit.
    """
    trust, overrides = taken_out(overrides)
    parser = OneLineParser()
    parser.add_lightning_class_args(CryDataModule, "data")
    is_yaml = Path(given).suffix.lower() in (".yaml", ".yml")
    named = [f"--data={given}"] if is_yaml else [*AT_A_PATH, f"--data.corpus.init_args.path={given}"]
    arguments = [*named, *overrides]
    with resolving(trust, arguments), warnings.catch_warnings():
        config = parser.parse_args(arguments)
        warnings.filterwarnings("ignore", ".*is an instance of `nn.Module`.*")  # hyper-parameters that nobody saves
        try:
            data: CryDataModule = parser.instantiate_classes(config).data
        except Exception as error:
            raise instantiation_error(error, "data") from error
    check_name("data.corpus.name", data.corpus.name)
    return data

"""The precision that a stage is trained in, by what the hardware multiplies in bfloat16."""

import torch
from lightning.pytorch import LightningModule
from torch import nn

from cry_lightning.console import UserError

AUTO = "auto"
FULL, MIXED = "32-true", "bf16-mixed"
CPU_HAS = ("amx_bf16", "avx512_bf16")  # instructions, of which one is enough


def automatic(accelerator: object, stage: LightningModule | None = None) -> tuple[str, str]:
    """The precision of a stage's training on an accelerator as the Trainer takes it, and why."""
    if stage is not None and not stage.automatic_optimization:
        return FULL, "as nothing is trained by gradients"
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        has = torch.cuda.is_bf16_supported(including_emulation=False)
        return (MIXED, "the GPU has bfloat16") if has else (FULL, "the GPU has no bfloat16")
    if not on_processor(accelerator):
        return FULL, f"for the accelerator {accelerator}"
    found = torch.cpu.get_capabilities()
    if not any(map(found.get, CPU_HAS)):
        return FULL, "as the processor has it"
    if stage is not None and trains_depthwise(stage):
        return FULL, "as the processor trains depthwise convolutions quicker so"
    return MIXED, "the processor has bfloat16"


def trains_depthwise(model: nn.Module) -> bool:
    """Whether it learns convolutions of one channel each, whose gradients torch computes slowly in bfloat16."""
    convolutions = (module for module in model.modules() if isinstance(module, nn.Conv2d))
    return any(each.weight.requires_grad and each.groups == each.in_channels > 1 for each in convolutions)


def on_processor(accelerator: object) -> bool:
    """Whether an accelerator as the Trainer takes it is none, here."""
    other = torch.cuda.is_available() or torch.backends.mps.is_available()
    return accelerator == "cpu" or (accelerator == "auto" and not other)


def canonical(precision: object) -> object:
    """One name for full precision; runs from before there was `auto` state none."""
    return FULL if precision is None or str(precision) == "32" else precision


def check_stated(precision: object, accelerator: object, by_gradients: bool) -> None:
    """Refuse a precision in which nothing is trained as the config would state it.

    Raises:
        UserError: it is that of GPUs on a processor, which Lightning replaces, or of what is not trained by gradients.
    """
    if str(precision) in ("16", "16-mixed") and on_processor(accelerator):
        raise UserError(f"trainer.precision: {precision} is for GPUs; here give {MIXED}, or leave it out")
    if not by_gradients and str(precision) not in (FULL, "32", MIXED):
        raise UserError(f"trainer.precision: what is not trained by gradients has its own; leave {precision} out")


def of_test(stated: object, by_command: bool) -> object:
    """Full, as `predict`, `embed` and an exported model compute, unless the command itself states another."""
    return stated if by_command and stated != AUTO else FULL

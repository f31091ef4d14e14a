"""The precision that a stage is trained in, by what the hardware multiplies in bfloat16."""

import torch

AUTO = "auto"
FULL, MIXED = "32-true", "bf16-mixed"
CPU_HAS = ("amx_bf16", "avx512_bf16")  # instructions, of which one is enough


def automatic(accelerator: object, by_gradients: bool = True) -> tuple[str, str]:
    """The precision of a training on an accelerator as the Trainer takes it, and why."""
    if not by_gradients:
        return FULL, "as nothing is trained by gradients"
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        has = torch.cuda.is_bf16_supported(including_emulation=False)
        return (MIXED, "the GPU has bfloat16") if has else (FULL, "the GPU has no bfloat16")
    on_cpu = accelerator == "cpu" or (accelerator == "auto" and not torch.backends.mps.is_available())
    if not on_cpu:
        return FULL, f"for the accelerator {accelerator}"
    found = torch.cpu.get_capabilities()
    return (MIXED, "the processor has bfloat16") if any(map(found.get, CPU_HAS)) else (FULL, "as the processor has it")


def canonical(precision: object) -> object:
    """One name for full precision; runs from before there was `auto` state none."""
    return FULL if precision is None or str(precision) == "32" else precision


def of_test(stated: object, by_command: bool) -> object:
    """Full for mixed, as `predict`, `embed` and an exported model compute, unless the command itself states it."""
    return FULL if stated == AUTO or (str(stated).endswith("mixed") and not by_command) else stated

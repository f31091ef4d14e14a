"""NT-Xent, the contrastive loss of SimCLR, without ever holding all similarities at once."""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import BackwardCFunction, Function, FunctionCtx, once_differentiable

from cry_lightning.console import UserError


def nt_xent(z: Tensor, temperature: float, block: int = 512, gather: bool = True) -> Tensor:
    """Normalised temperature-scaled cross-entropy (a scalar, the mean over rows) of projections (2B, D).

    Rows i and i + B are the two views of one clip; every other row is a negative, of all ranks where a process group is
    up. The loss is of this rank's rows alone: so the gradient, as DDP averages it, is that of the joint batch's loss.

    Args:
        z: projections of any length: their similarity is the cosine, computed in float32 (in float64 where z is).
        temperature: what similarities are divided by.
        block: rows compared with all others at a time; block * 2B similarities are in memory.
        gather: whether the rows of other ranks are negatives; without it, ranks may differ in their batches.

    Raises:
        UserError: for a temperature that is not positive, an odd number of rows, a batch without negatives, and
            ranks with batches of different sizes.

    Source: Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual Representations", equation 1.
    """
    if not temperature > 0:
        raise UserError(f"nt_xent: temperature must be positive, not {temperature}; 0.1 to 0.5 is usual")
    if len(z) % 2:
        raise UserError(f"nt_xent: two views of each clip are an even number of rows, not {len(z)}")
    with torch.autocast(z.device.type, enabled=False):
        z = z if z.dtype == torch.float64 else z.float()
        # A row of zeros has no direction: masked, it gets no gradient, where `normalize` would give it one of 1e12.
        z = F.normalize(z.masked_fill((z == 0).all(dim=1, keepdim=True), 0.0))
        everyone, first = _all_ranks(z) if gather else (z, 0)
        if len(everyone) <= 2:
            raise UserError("nt_xent: a batch of one has no negatives; set a batch_size of 2 or more")
        return _ContrastiveCrossEntropy.apply(z, everyone, first, temperature, block)


class _ContrastiveCrossEntropy(Function):
    """Mean cross-entropy of each row's positive among all columns but itself; own row i is column first + i.

    The loss being a mean, its gradient is known up to a factor before backward begins: a block's similarities are
    used for both and dropped.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, rows: Tensor, columns: Tensor, first: int, temperature: float, block: int) -> Tensor:
        n = len(rows)
        scaled = columns / temperature
        positive = first + torch.arange(n, device=rows.device).roll(n // 2)
        loss = rows.new_zeros(())
        rows_grad, columns_grad = torch.empty_like(rows), torch.zeros_like(columns)
        memory = rows.new_empty(min(block, n), len(columns))  # of all blocks in turn
        for start in range(0, n, block):
            some = rows[start : start + block]
            pairs = torch.arange(len(some), device=rows.device), positive[start : start + block]
            similarity = torch.mm(some, scaled.T, out=memory[: len(some)])
            similarity.diagonal(first + start).fill_(-torch.inf)
            similarity -= similarity.amax(dim=1, keepdim=True)  # changes no probability, keeps exp within range
            loss -= similarity[pairs].sum()
            p = similarity.exp_()
            total = p.sum(dim=1, keepdim=True)
            loss += total.log().sum()
            p /= total
            p[pairs] -= 1  # now the gradient of the summed loss by the similarities
            rows_grad[start : start + block] = p @ scaled
            columns_grad.addmm_(p.T, some)
        ctx.save_for_backward(rows_grad.div_(n), columns_grad.div_(n * temperature))
        return loss / n

    @staticmethod
    @once_differentiable
    def backward(ctx: BackwardCFunction, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved: tuple[Tensor, ...] = ctx.saved_tensors
        rows_grad, columns_grad = saved
        return grad * rows_grad, grad * columns_grad, None, None, None


def _all_ranks(z: Tensor) -> tuple[Tensor, int]:
    """Rows (N, D) of all ranks, with gradient to each, and where this rank's begin among them."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return z, 0
    from torch.distributed.nn.functional import all_gather  # not there in a torch built without distributed

    sizes = torch.empty(dist.get_world_size(), dtype=torch.long, device=z.device)
    dist.all_gather_into_tensor(sizes, torch.tensor([len(z)], device=z.device))
    if sizes.unique().numel() > 1:
        raise UserError(f"nt_xent: ranks have batches of {sizes.tolist()} rows; make them equal (drop_last: true)")
    return torch.cat(all_gather(z)), dist.get_rank() * len(z)

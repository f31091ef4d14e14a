"""Classification heads."""

import torch

from cry_lightning.tasks.heads import ProbeHead


def test_probe_head_learns_a_direction_whatever_its_scale():
    torch.manual_seed(0)
    labels = torch.arange(256) % 2
    embeddings = torch.randn(256, 8) * torch.logspace(-3, 2, 8)
    embeddings[:, 0] += 1e-3 * (4 * labels - 2)  # what tells the classes apart is small beside the rest
    head = ProbeHead(8, 2)
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.03)
    for step in range(100):
        rows = torch.arange(step * 32, step * 32 + 32) % 256
        loss = torch.nn.functional.cross_entropy(head(embeddings[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    head.eval()
    assert (head(embeddings).argmax(1) == labels).float().mean() > 0.9


def test_probe_head_takes_a_batch_of_one():
    head = ProbeHead(4, 3)
    head(torch.randn(64, 4) + 5)
    one = torch.randn(1, 4)
    in_training = head(one)
    assert torch.equal(in_training, head.eval()(one))

"""What the training loop (vosdata/train.py) is made of: data, losses, schedule, ranks, and what a run leaves behind."""

import torch

CPU = torch.device("cpu")
SHAPE = (1, 2, 2)

"""Devices of training: the processor, or a GPU that torch supports. Nothing falls back from one to the other."""

from __future__ import annotations

import os
import socket


def device_problem(device: str) -> str:
    """The reason why this process cannot train on 'cpu' or 'cuda'; '' when it can. Imports torch for 'cuda' alone."""
    if device == "cpu":
        return ""
    import torch

    if missing_in_torch():
        return missing_in_torch()
    if torch.cuda.device_count() == 0:
        return f"torch {torch.__version__} sees no GPU on {socket.gethostname()}"
    return ""


def missing_in_torch() -> str:
    """The reason why the installed torch has no GPUs on any machine; '' when it has."""
    import torch

    if torch.version.cuda is None and torch.version.hip is None:
        return f"the installed torch {torch.__version__} is built without CUDA"
    return ""


def torch_device(device: str, member: int) -> str:
    """torch's name of the device that trains a committee member: members take the GPUs that a process sees in turn.

    On a GPU torch is held to reproducible kernels, so that a stopped training continues bit for bit.
    """
    if device == "cpu":
        return "cpu"
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the first product is computed
    import torch

    torch.use_deterministic_algorithms(True)
    return f"cuda:{member % torch.cuda.device_count()}"

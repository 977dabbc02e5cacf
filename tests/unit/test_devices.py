"""The device of the training: taken as the deck says, or refused in words; never another one in silence."""

from __future__ import annotations

import pytest
import torch

from hpcir.deck.sections import TrainingSettings
from hpcir.errors import InputError
from hpcir.runtime.mpi import SerialCommunicator
from hpcir.study.learning.committee import require_device
from hpcir.training.devices import device_problem, missing_in_torch, torch_device


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch):
    """gpus(count): as if torch were built for GPUs and saw so many."""

    def pretend(count: int) -> None:
        monkeypatch.setattr(torch.version, "cuda", "12.4")
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    yield pretend
    torch.use_deterministic_algorithms(False)


def test_the_processor_needs_nothing():
    assert device_problem("cpu") == ""
    assert torch_device("cpu", 3) == "cpu"
    require_device(SerialCommunicator(), TrainingSettings())


def test_a_torch_without_gpus_is_named(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    assert torch.__version__ in missing_in_torch()
    with pytest.raises(InputError, match="built without CUDA") as refused:
        require_device(SerialCommunicator(), TrainingSettings(device="cuda"))
    assert refused.value.where == "training.device"
    assert refused.value.status == 2


def test_a_host_without_gpus_is_named(gpus):
    gpus(0)
    with pytest.raises(InputError, match="sees no GPU on"):
        require_device(SerialCommunicator(), TrainingSettings(device="cuda"))


def test_members_take_the_gpus_in_turn_with_reproducible_kernels(gpus):
    gpus(2)
    require_device(SerialCommunicator(), TrainingSettings(device="cuda"))
    assert [torch_device("cuda", member) for member in range(4)] == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    assert torch.are_deterministic_algorithms_enabled()

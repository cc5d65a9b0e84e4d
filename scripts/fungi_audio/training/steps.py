"""What a training reads step by step."""

from abc import abstractmethod
from typing import TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

Batch = TypeVar("Batch", covariant=True)


class Steps(Dataset[Batch]):
    """One batch for every step of a training; each depends on its number only, so that a killed run can go on."""

    @abstractmethod
    def __len__(self) -> int: ...

    def loader(self, first: int, workers: int, pinned: bool) -> DataLoader[Batch]:
        """The batches from step `first` on, read ahead by `workers` processes."""
        return DataLoader(
            self,
            batch_size=None,
            sampler=range(first, len(self)),
            num_workers=workers,
            pin_memory=pinned,
            generator=torch.Generator(),  # the global one belongs to the training state
        )

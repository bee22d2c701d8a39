"""What tests of trainers share: a live trainer on a few images."""

import pytest
import torch

from kdcourse.models import make_mlp
from kdcourse.widgets import LiveTrainer


@pytest.fixture
def make_live(small, teacher):
    def make(seed=0, **settings):
        torch.manual_seed(seed)
        return LiveTrainer(make_mlp(16), teacher, settings.pop("data", small), batch_size=50, **settings)

    return make

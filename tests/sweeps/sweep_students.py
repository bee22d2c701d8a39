"""Students small enough to be trained by the dozen; in a module, so that another process can import them."""

from torch import nn

from kdcourse.models import make_cnn, make_mlp


def make_small_mlp():
    return make_mlp(16)


def make_small_cnn():
    return make_cnn(3, 4)


def make_tiny_cnn():
    return nn.Sequential(nn.AvgPool2d(4), *make_cnn(3, 4))


def make_dropout_mlp():
    return make_mlp(16, dropout=0.5, input_dropout=0.2)

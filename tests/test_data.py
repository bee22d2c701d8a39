"""MNIST inside the package, batches in an order of their own, jitter as one gather."""

import gzip
import hashlib
import shutil
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdcourse.data import Minibatches, Split, jitter, load_mnist, minibatches
from kdcourse.data import mnist as mnist_module
from kdcourse.data.mnist import CHECKSUMS, read_idx

FOLDER = Path(str(resources.files("kdcourse.data") / "mnist"))

# MNIST


def test_mnist_has_its_published_digit_counts(mnist):
    labels = torch.cat([mnist.train.labels, mnist.held_out.labels])
    assert labels.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert mnist.test.labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_mnist_has_its_published_mean_and_deviation():
    images = load_mnist(held_out=0).train.images.double()
    assert images.mean().item() == pytest.approx(0.1307, abs=5e-5)
    assert images.std().item() == pytest.approx(0.3081, abs=5e-5)


def test_images_are_floats_from_0_to_1_with_a_channel_and_labels_are_int64(mnist):
    sizes = {"train": 55_000, "held_out": 5_000, "test": 10_000}
    for name, split in mnist._asdict().items():
        assert split.images.shape == (sizes[name], 1, 28, 28)
        assert split.labels.shape == (sizes[name],)
        assert (split.images.dtype, split.labels.dtype) == (torch.float32, torch.int64)
        assert (split.images.min(), split.images.max()) == (0, 1)


def test_held_out_digits_are_the_last_and_no_split_shares_a_digit_with_another(mnist):
    everything = load_mnist(held_out=0)
    assert len(everything.held_out.labels) == 0
    assert torch.equal(torch.cat([mnist.train.images, mnist.held_out.images]), everything.train.images)
    assert torch.equal(torch.cat([mnist.train.labels, mnist.held_out.labels]), everything.train.labels)


def test_pixels_match_the_file_read_byte_by_byte(mnist):
    raw = gzip.decompress((FOLDER / "t10k-images-idx3-ubyte.gz").read_bytes())
    pixels = np.frombuffer(raw, np.uint8, offset=16).reshape(10_000, 28, 28)
    np.testing.assert_array_equal(mnist.test.images[:100, 0].numpy(), pixels[:100].astype(np.float32) / np.float32(255))


def test_editing_one_load_does_not_reach_the_next():
    first = load_mnist(held_out=0)
    first.test.images.zero_()
    first.test.labels.zero_()
    again = load_mnist(held_out=0)
    assert again.test.images.max() == 1
    assert again.test.labels.max() == 9


@pytest.mark.trap(7)
def test_every_tensor_is_on_the_device_that_was_asked_for():
    for split in load_mnist(device="meta"):
        assert {tensor.device.type for tensor in split} == {"meta"}


@pytest.mark.parametrize("held_out", [-1, 60_000])
def test_some_images_must_be_left_to_train_on(held_out):
    with pytest.raises(ValueError, match=rf"held_out must be from 0 to 59999, got {held_out}"):
        load_mnist(held_out=held_out)


def test_shipped_digits_take_at_most_12_megabytes():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 12e6


def test_the_licence_ships_with_the_digits():
    assert "CC BY-SA" in (FOLDER / "LICENSE-MNIST.txt").read_text(encoding="utf-8")


# Damaged files


@pytest.fixture
def copied_files(tmp_path, monkeypatch):
    """MNIST's files where a test may spoil them; ``load_mnist`` reads them there."""
    shutil.copytree(FOLDER, tmp_path / "mnist")
    monkeypatch.setattr(mnist_module.resources, "files", lambda package: tmp_path)
    mnist_module._tensors.cache_clear()
    yield tmp_path / "mnist"
    monkeypatch.undo()
    mnist_module._tensors.cache_clear()


def altered(raw: bytes) -> bytes:
    """One pixel of one image changed, packed again without a flaw."""
    content = bytearray(gzip.decompress(raw))
    content[-1] ^= 1
    return gzip.compress(bytes(content), compresslevel=1)


def flipped(raw: bytes) -> bytes:
    middle = len(raw) // 2
    return raw[:middle] + bytes([raw[middle] ^ 0xFF]) + raw[middle + 1 :]


@pytest.mark.parametrize("name", ["train-labels-idx1-ubyte.gz", "t10k-images-idx3-ubyte.gz"])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (None, "is missing"),
        (lambda raw: b"", "(is damaged and does not unpack|has been altered)"),
        (lambda raw: raw[: len(raw) // 2], "is damaged and does not unpack"),
        (flipped, "is damaged and does not unpack"),
        (lambda raw: b"<html>404</html>", "is damaged and does not unpack"),
        (altered, "has been altered: SHA-256 [0-9a-f]{64}, expected [0-9a-f]{64}"),
    ],
    ids=["missing", "empty", "cut", "flipped", "not gzip", "altered"],
)
def test_a_missing_damaged_or_altered_file_is_named(copied_files, name, spoil, message):
    path = copied_files / name
    raw = path.read_bytes()
    path.unlink()
    if spoil is not None:
        path.write_bytes(spoil(raw))
    with pytest.raises(ValueError, match=rf"MNIST file .*{name} {message}.*\. Reinstall the package: pip install"):
        load_mnist()
    path.write_bytes(raw)
    assert load_mnist().test.labels[0] == 7  # the failure was not remembered


def test_files_are_verified_before_their_content_is_believed(tmp_path):
    path = tmp_path / "tiny.gz"
    content = bytes([0, 0, 8, 1, 0, 0, 0, 3, 5, 0, 4])  # IDX of three labels
    path.write_bytes(gzip.compress(content))
    with pytest.raises(ValueError, match=r"tiny\.gz has been altered"):
        read_idx(path, sha256=CHECKSUMS["train-labels-idx1-ubyte"])
    assert read_idx(path, sha256=hashlib.sha256(content).hexdigest()).tolist() == [5, 0, 4]


# Splits


def test_without_and_only_part_a_split(digits):
    threes, others = digits.only(3), digits.without(3)
    assert set(threes.labels.tolist()) == {3}
    assert set(others.labels.tolist()) == set(range(10)) - {3}
    assert len(threes.labels) + len(others.labels) == 500
    assert torch.equal(threes.images, digits.images[digits.labels == 3])


def test_only_takes_several_digits_and_keeps_their_order(digits):
    mask = (digits.labels == 7) | (digits.labels == 8)
    assert torch.equal(digits.only(7, 8).labels, digits.labels[mask])


def test_take_is_a_prefix(mnist):
    images, labels = mnist.train.take(10)
    assert torch.equal(images, mnist.train.images[:10])
    assert torch.equal(labels, mnist.train.labels[:10])


@pytest.mark.parametrize("count", [0, 501])
def test_taking_nothing_or_too_much_is_refused(digits, count):
    with pytest.raises(ValueError, match=rf"count must be from 1 to 500, the size of this split, got {count}"):
        digits.take(count)


@pytest.mark.parametrize("wanted", [(), (10,), (3, -1)])
def test_digits_that_do_not_exist_are_refused(digits, wanted):
    for choose in (digits.only, digits.without):
        with pytest.raises(ValueError, match="digits must be one or more of 0 to 9"):
            choose(*wanted)


# Batches


@given(size=st.integers(1, 40), batch_size=st.integers(1, 50), epochs=st.integers(1, 3))
def test_each_epoch_shows_every_sample_once_and_rows_stay_aligned(size, batch_size, epochs):
    index = torch.arange(size)
    batches = list(minibatches(index, index * 2, index[:, None] + 0.5, batch_size=batch_size, epochs=epochs))
    per_epoch = -(-size // batch_size)
    assert len(batches) == epochs * per_epoch == len(minibatches(index, batch_size=batch_size, epochs=epochs))
    for epoch in range(epochs):
        one = batches[epoch * per_epoch : (epoch + 1) * per_epoch]
        assert [len(batch[0]) for batch in one[:-1]] == [batch_size] * (per_epoch - 1)
        assert torch.cat([batch[0] for batch in one]).sort().values.equal(index)
    for first, second, third in batches:
        assert torch.equal(second, first * 2)
        assert torch.equal(third, first[:, None] + 0.5)


def test_epochs_differ_in_order_and_a_seed_repeats_it():
    def order(seed):
        generator = torch.Generator().manual_seed(seed)
        return [
            batch.tolist() for (batch,) in minibatches(torch.arange(50), batch_size=50, epochs=2, generator=generator)
        ]

    assert order(0) == order(0) != order(1)
    assert order(0)[0] != order(0)[1]
    assert order(0)[0] != list(range(50))


@pytest.mark.trap(17)
def test_order_and_augmentation_do_not_touch_the_global_generator(digits):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = [images.sum() for images, _ in minibatches(*digits, augment=jitter)]
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert torch.equal(
        torch.stack(first), torch.stack([images.sum() for images, _ in minibatches(*digits, augment=jitter)])
    )


@given(done=st.integers(0, 9), augmented=st.booleans())
def test_batches_continue_from_any_position_in_a_new_object(done, augmented):
    images = torch.arange(10 * 16, dtype=torch.float32).view(10, 1, 4, 4)
    options = {"batch_size": 4, "epochs": 3, "augment": jitter if augmented else None}
    whole = [batch.clone() for (batch,) in minibatches(images, **options)]
    stopped = minibatches(images, **options)
    start = iter(stopped)
    first = [next(start)[0] for _ in range(done)]
    continued = minibatches(images, generator=torch.Generator().manual_seed(99), **options)
    continued.load_state_dict(stopped.state_dict())
    parts = [*first, *(batch for (batch,) in continued)]
    assert len(parts) == len(whole) == 9
    assert all(torch.equal(left, right) for left, right in zip(parts, whole, strict=True))


def test_only_the_first_tensor_is_augmented(digits):
    images, copies = next(iter(minibatches(digits.images, digits.images, augment=lambda x, generator: x + 1)))
    assert torch.equal(images, copies + 1)


def test_batches_are_copies_so_that_editing_one_leaves_the_data_as_it_was(digits):
    data = Split(digits.images.clone(), digits.labels.clone())
    for images, labels in minibatches(*data):
        images.zero_()
        labels.zero_()
    assert torch.equal(data.images, digits.images)
    assert torch.equal(data.labels, digits.labels)


@pytest.mark.parametrize(
    ("sizes", "options", "message"),
    [
        ([], {}, "minibatches need at least one tensor"),
        ([3, 4], {}, r"the same, non-zero number of samples, got \[3, 4\]"),
        ([0, 0], {}, r"the same, non-zero number of samples, got \[0, 0\]"),
        ([3], {"batch_size": 0}, "batch_size must be a positive integer, got 0"),
        ([3], {"batch_size": 1.5}, "batch_size must be a positive integer, got 1.5"),
        ([3], {"epochs": -1}, "epochs must be a positive integer, got -1"),
    ],
)
def test_data_that_cannot_be_batched_is_refused_in_words(sizes, options, message):
    with pytest.raises(ValueError, match=message):
        Minibatches(*(torch.zeros(size) for size in sizes), **options)


# Jitter


@pytest.mark.parametrize("pixels", [0, 1, 2, 5])
def test_jitter_is_scipys_shift_with_each_images_own_offset(digits, pixels):
    images = digits.images[:40]
    moved = jitter(images, torch.Generator().manual_seed(8), pixels=pixels)
    # The window starts at the drawn offset in the padded image, so the digit moves the other way.
    drawn = torch.randint(0, 2 * pixels + 1, (2, 40), generator=torch.Generator().manual_seed(8)) - pixels
    for image, result, offset in zip(images[:, 0], moved[:, 0], drawn.T.tolist(), strict=True):
        expected = scipy.ndimage.shift(image.numpy(), [-step for step in offset], order=0, mode="constant", cval=0.0)
        np.testing.assert_array_equal(result.numpy(), expected)


def test_jitter_shifts_every_offset_about_equally_often():
    images = torch.zeros(5000, 1, 9, 9)
    images[:, :, 4, 4] = 1.0
    moved = jitter(images, torch.Generator().manual_seed(0))
    frequency = moved.mean(dim=(0, 1))
    assert torch.equal(moved.sum(dim=(1, 2, 3)), torch.ones(5000))
    assert frequency[2:7, 2:7].sum() == pytest.approx(1.0)
    expected, deviation = 1 / 25, (1 / 25 * 24 / 25 / 5000) ** 0.5
    assert (frequency[2:7, 2:7] - expected).abs().max() < 4.5 * deviation


def test_jitter_moves_all_channels_of_an_image_together():
    one = torch.rand(6, 1, 10, 12)
    both = jitter(torch.cat([one, -one], dim=1), torch.Generator().manual_seed(1))
    assert torch.equal(both[:, 0], -both[:, 1])
    assert both.shape == (6, 2, 10, 12)


def test_jitter_leaves_its_input_alone_and_by_0_pixels_changes_nothing(digits):
    before = digits.images.clone()
    jitter(digits.images, torch.Generator())
    assert torch.equal(digits.images, before)
    assert torch.equal(jitter(digits.images, torch.Generator(), pixels=0), before)


def test_jitter_refuses_what_is_no_batch_of_images():
    with pytest.raises(ValueError, match=r"jitter needs images \(B, C, H, W\) and pixels >= 0, got \(4, 784\) and 2"):
        jitter(torch.zeros(4, 784), torch.Generator())
    with pytest.raises(ValueError, match="and -1"):
        jitter(torch.zeros(4, 1, 28, 28), torch.Generator(), pixels=-1)


@pytest.mark.trap(76)
def test_a_smaller_last_batch_is_left_out_where_that_is_asked_for():
    values = torch.arange(11)
    batches = [batch for (batch,) in minibatches(values, batch_size=5, epochs=3, drop_last=True)]
    assert [len(batch) for batch in batches] == [5] * 6
    assert len(set(torch.cat(batches[:2]).tolist())) == 10
    assert [len(batch) for (batch,) in minibatches(values, batch_size=11, drop_last=True)] == [11]
    with pytest.raises(ValueError, match="drop_last leaves no batch: 11 samples do not fill one of 12"):
        minibatches(values, batch_size=12, drop_last=True)

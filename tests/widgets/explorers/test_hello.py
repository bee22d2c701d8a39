"""The first widget, without a front end."""

from kdcourse.widgets import hello_slider


def test_the_hello_slider_draws_the_digit_it_is_at(frame_of):
    hello = hello_slider()
    hello.digit.value = 7
    assert frame_of(hello).text["digit"] == "7"
    assert "ten of MNIST's 7s" in hello.status.value
    hello.close()

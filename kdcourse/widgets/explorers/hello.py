"""A slider and a picture that follows it: the first widget, which shows that widgets work here.

Chapter 00.
"""

import ipywidgets

from ...data import load_mnist
from ..canvas import Canvas, Shown
from ..controls import slider_layout


def hello_slider() -> "HelloSlider":
    """Return a slider that picks a digit, with ten images of it. If the images follow the slider, widgets work."""
    return HelloSlider()


class HelloSlider(Shown):
    """A slider, and a picture that this kernel draws when the slider moves.

    Attributes
    ----------
    digit : ipywidgets.IntSlider
        Digit from 0 to 9.
    canvas : Canvas
    """

    about = "A slider that picks a digit, live when the notebook runs."

    def __init__(self) -> None:
        super().__init__()
        self._test = load_mnist().test
        self.digit = ipywidgets.IntSlider(value=3, min=0, max=9, description="digit", layout=slider_layout())
        self.canvas = Canvas(6.4, 0.75)
        self._image = self.canvas.add_image(0, 0, 1, 1, columns=280)
        self.canvas.moving(self._image)
        self.follow(self.digit, action=self._draw)
        self.widget = ipywidgets.VBox([self.digit, self.canvas.widget, self.status])
        self._draw()

    def _draw(self) -> None:
        digit = self.digit.value
        images = self._test.only(digit).images[:10]  # (10, 1, 28, 28)
        self._image.set_data(images[:, 0].permute(1, 0, 2).reshape(28, 280).numpy())
        self.canvas.draw(digit=digit)
        self.status.value = f"The slider says {digit}, and Python drew ten of MNIST's {digit}s. <b>Widgets work.</b>"

"""Predictions: the learner guesses before the machine answers. All chapters."""


def check_prediction(prediction: str, *, answer: str, because: str) -> None:
    """Compare a guess with what was seen, and say why; a wrong guess is welcome and stops nothing.

    Parameters
    ----------
    prediction : str
        The learner's letter, such as ``"b"``; case and surrounding spaces do not matter.
    answer : str
        The letter that turned out right.
    because : str
        One clause: the reason, as it follows "because".

    Raises
    ------
    ValueError
        If the prediction is not a single letter.
    """
    guess = str(prediction).strip().lower()
    if len(guess) != 1 or not guess.isalpha():
        raise ValueError(f"a prediction is one letter in quotes, such as 'b', got {prediction!r}.")
    if guess == answer.lower():
        print(f"You said {guess}, and {answer} it is: {because}.")
    else:
        print(f"You said {guess}; it is {answer}: {because}. A guess that fails teaches most.")

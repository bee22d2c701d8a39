"""Questions with choices: each wrong letter has its own reason, which does not give the answer away. All exercises."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .failures import fail, not_answered, passed


class Question(NamedTuple):
    """A question with choices.

    Attributes
    ----------
    right : str
        The letter that is right.
    wrong : mapping from str to str
        For every other letter, what speaks against it, without giving the answer away.
    because : str
        Reason that is printed when the answer is right.
    """

    right: str
    wrong: Mapping[str, str]
    because: str


def check_choice(answer: Any, question: Question) -> None:
    """Check the answer to a question with choices.

    Parameters
    ----------
    answer : str
        The learner's letter. ``None`` or ``...`` is the stub's.
    question : Question
        The choices.

    Raises
    ------
    CheckFailed
        With the reason that belongs to the wrong letter.
    NotImplementedError
        If there is no answer yet.
    """
    if answer is None or answer is ...:
        not_answered("this question has no answer yet: put a letter in quotes, such as 'a'.")
    if type(answer) is not str:
        fail(f"an answer is one letter in quotes, such as 'a', got {type(answer).__name__}.")
    letter = str.lower(str.strip(answer).strip("()."))
    if letter in question.wrong:
        fail(f"({letter}) is not it: {question.wrong[letter]}")
    if not str.__eq__(letter, question.right):
        choices = ", ".join(sorted([question.right, *question.wrong]))
        fail(f"the choices are {choices}; {letter[:20]!r} is none of them.")
    passed(f"({question.right}): {question.because}")


def check_answers(answers: Any, questions: Sequence[Question]) -> None:
    """Check the answers to several questions with choices.

    Parameters
    ----------
    answers : list of str
        A letter for each question.
    questions : sequence of Question
        In the same order.

    Raises
    ------
    CheckFailed
        With the reason that belongs to the first wrong letter.
    NotImplementedError
        If there is no answer yet.
    """
    if type(answers) not in (list, tuple) or len(answers) != len(questions):
        example = str(["a", "b", "c", "d"][: len(questions)])
        fail(f"answers must be a list of {len(questions)} letters in quotes, such as {example}.")
    for answer, question in zip(answers, questions, strict=True):
        check_choice(answer, question)

"""What a linear model that counts words makes of the definitions: the simple thing beside experiment ``language``."""

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.svm import LinearSVC

from kdcourse.data.definitions import Definitions, TextSplit, load_definitions

STRENGTHS = (1.0, 3.0, 10.0)  # C of the linear model


def linear_model(definitions: Definitions | None = None) -> dict:
    """Count test errors of a linear model on words and pairs of words; its C is chosen on the held-out definitions."""
    definitions = load_definitions() if definitions is None else definitions
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    counts = words.fit_transform(definitions.train.texts)

    def errors(model: LinearSVC, split: TextSplit) -> int:
        return int((model.predict(words.transform(split.texts)) != split.labels.numpy()).sum())

    models = {strength: LinearSVC(C=strength).fit(counts, definitions.train.labels.numpy()) for strength in STRENGTHS}
    held_out = {strength: errors(model, definitions.held_out) for strength, model in models.items()}
    chosen = min(held_out, key=lambda strength: held_out[strength])
    return {
        "about": "linear support vector machine on TF-IDF of words and pairs of words",
        "C": chosen,
        "held_out_errors": {f"C = {strength:g}": count for strength, count in held_out.items()},
        "training_definitions": len(definitions.train.texts),
        "test_errors": errors(models[chosen], definitions.test),
        "test_definitions": len(definitions.test.texts),
    }

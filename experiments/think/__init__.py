"""What stands behind the folded answers of *Think, then try*: each was measured with its chapter's own code.

``chNN.py`` has what the answers of chapter NN need (``NEEDS``, names of the chapter's code) and a function for each
question with numbers (``ANSWERS``). ``python -m experiments.think 02`` runs them and leaves
``experiments/results/think02.json``; ``python tools/update_docs.py`` writes the texts of the record into the chapter.
"""

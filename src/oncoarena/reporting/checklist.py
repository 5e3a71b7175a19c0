"""The TRIPOD+AI checklist: each item in short, filled from what a run knows, or left to the authors by name.

Source of the items: Collins et al. 2024, doi:10.1136/bmj-2023-078378. The wording here is our own; the
statement and its explanation are what counts.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from oncoarena.reporting.checklist_answers import Answers
from oncoarena.reporting.tables import complete

SOURCE = "10.1136/bmj-2023-078378"
COLUMNS = ["item", "part", "topic", "asks", "status", "answer"]
STATUS = {
    "filled": "filled from the run",
    "begun": "begun from the run, to be completed by the authors",
    "authors": "to be completed by the authors",
}

ITEMS = (
    (
        "1",
        "Title",
        "Title",
        "That a prediction model is developed or evaluated, for whom and for what outcome",
    ),
    ("2", "Abstract", "Abstract", "A structured summary, by TRIPOD+AI for abstracts"),
    (
        "3a",
        "Introduction",
        "Background",
        "The setting in care, why a model is needed, which models there are",
    ),
    (
        "3b",
        "Introduction",
        "Background",
        "The target population, where in care the model acts and who uses it",
    ),
    ("3c", "Introduction", "Background", "Health inequalities known between groups of people"),
    ("4", "Introduction", "Objectives", "What the study sets out to do: develop, evaluate or both"),
    (
        "5a",
        "Methods",
        "Data",
        "Where development and evaluation data come from, why, and whom they stand for",
    ),
    ("5b", "Methods", "Data", "When participants were enrolled and until when they were followed"),
    ("6a", "Methods", "Participants", "The kind, number and place of the centres"),
    ("6b", "Methods", "Participants", "Who was eligible"),
    ("6c", "Methods", "Participants", "Treatments received and how they were dealt with"),
    (
        "7",
        "Methods",
        "Data preparation",
        "Processing and quality control, alike for all groups of people or not",
    ),
    ("8a", "Methods", "Outcome", "What is predicted, over which time, how it was established and why so"),
    ("8b", "Methods", "Outcome", "Who judged the outcome, where judgement was needed"),
    ("8c", "Methods", "Outcome", "What was done so that the outcome was judged blind to the predictors"),
    (
        "9a",
        "Methods",
        "Predictors",
        "Which predictors were considered at first, why, and how they were chosen",
    ),
    ("9b", "Methods", "Predictors", "How and when each predictor was measured"),
    ("9c", "Methods", "Predictors", "Who judged predictors, where judgement was needed"),
    ("10", "Methods", "Sample size", "How the size was arrived at and whether it suffices"),
    ("11", "Methods", "Missing data", "How missing data were handled and why samples were left out"),
    ("12a", "Methods", "Analysis", "Which data served development and which evaluation"),
    ("12b", "Methods", "Analysis", "How predictors entered: form, scaling, transformation"),
    (
        "12c",
        "Methods",
        "Analysis",
        "The kind of model, why, each step of building it, tuning and internal evaluation",
    ),
    ("12d", "Methods", "Analysis", "How differences between centres or countries were dealt with"),
    ("12e", "Methods", "Analysis", "All measures and plots of performance, and how models were compared"),
    ("12f", "Methods", "Analysis", "Whether a model was updated after its evaluation"),
    ("12g", "Methods", "Analysis", "How predictions were computed for the evaluation"),
    ("13", "Methods", "Class imbalance", "Whether and how it was dealt with, and recalibrated after"),
    ("14", "Methods", "Fairness", "What was done about fairness between groups of people, and why"),
    ("15", "Methods", "Model output", "What the model gives out, and how classes and thresholds were set"),
    ("16", "Methods", "Training and evaluation", "How development and evaluation data differ"),
    ("17", "Methods", "Ethical approval", "Who approved, and how consent was given or waived"),
    ("18a", "Open science", "Funding", "Who paid, and what part they had"),
    ("18b", "Open science", "Conflicts of interest", "Those of all authors"),
    ("18c", "Open science", "Protocol", "Where it can be read, or that there is none"),
    ("18d", "Open science", "Registration", "Register and number, or that it was not registered"),
    ("18e", "Open science", "Data sharing", "Whether and how the data can be had"),
    ("18f", "Open science", "Code sharing", "Whether and how the code of the analysis can be had"),
    ("19", "Patients and public", "Involvement", "How patients and public took part, or that they did not"),
    ("20a", "Results", "Participants", "The flow of participants, and how many have each outcome"),
    ("20b", "Results", "Participants", "Their characteristics, overall and by centre, with what is missing"),
    ("20c", "Results", "Participants", "Development and evaluation data compared"),
    ("21", "Results", "Model development", "Participants and outcomes in each analysis"),
    ("22", "Results", "Model specification", "The model in full, so that others can predict with it"),
    ("23a", "Results", "Model performance", "Estimates with intervals, for key groups of people as well"),
    ("23b", "Results", "Model performance", "How performance differs between centres or countries"),
    ("24", "Results", "Model updating", "What updating changed"),
    ("25", "Discussion", "Interpretation", "The main results, and what they mean beside earlier studies"),
    ("26", "Discussion", "Limitations", "What is weak, and how that bears on bias and use"),
    ("27a", "Discussion", "Usability", "What to do with poor or missing input when the model is in use"),
    ("27b", "Discussion", "Usability", "What the user must do and know"),
    ("27c", "Discussion", "Usability", "Next steps towards use, and where the model may hold"),
)
"""(item, part, topic, what it asks) of all 27 items with their parts."""


def checklist(
    study: Mapping[str, Any],
    samples: pd.DataFrame,
    splits: pd.DataFrame,
    runs: Sequence[Mapping[str, Any]],
    tables: Mapping[str, pd.DataFrame],
) -> pd.DataFrame:
    """Fill the checklist for a study; parameters as of ``report.compose``.

    Returns a table with the columns of ``COLUMNS``, a row an item; ``status`` is a key of ``STATUS``.
    """
    answers = Answers(study, samples, splits, runs, complete(tables)).all()
    rows = [(*entry, *answers.get(entry[0], ("authors", ""))) for entry in ITEMS]
    return pd.DataFrame(rows, columns=COLUMNS)


def view(table: pd.DataFrame) -> dict[str, Any]:
    """Arrange a filled checklist for the page, part by part, with how much is filled."""
    parts = []
    for title, rows in table.groupby("part", sort=False):
        counted = rows["status"].value_counts()
        words = {"filled": "filled", "begun": "begun", "authors": "for the authors"}
        entries = [row._asdict() | {"word": STATUS[row.status]} for row in rows.itertuples(index=False)]
        tally = ", ".join(f"{counted[key]} {word}" for key, word in words.items() if key in counted.index)
        parts.append({"title": title, "tally": tally, "entries": entries})
    n = {key: int((table["status"] == key).sum()) for key in STATUS}
    return {"source": SOURCE, "n_items": len(table), "n": n, "parts": parts}

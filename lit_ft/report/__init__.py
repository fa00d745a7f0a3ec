"""Turns the results of a run into figures, pages, model cards and TensorBoard.

Read `scores` (which figures there are), `analysis` (what is computed from predictions; `multi_label` and
`regression` for other kinds of label), `findings` and `page` with those of each kind, `figures` (the
pictures), `tables`, `slices`, `model_card`, `results` (all that a run leaves), `pairs` (also `tag_pairs`,
`number_pairs`) and `comparison` (several runs), `weighted`, `pooled`, `repeat_facts` and `repeat_page` (the
runs of a repeat as one), `learning_curve`, `out_of_fold`, `confident_learning` and `label_issues` (what they
said of each training text, and which labels to check), `search_page` with `trial_charts` (a search),
`tensorboard`.
Imports the ground only; no Lightning.
"""

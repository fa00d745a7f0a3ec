"""Files or the Hub -> batches of token ids.

Read in the order of the flow: `formats` (with `dialect`, `quotes`, `headers`, `json_records`, `reading`,
`file_errors`), `files`, `raw_files`, `corpus`, `source` (with `column_names`, `text_columns`);
`label_column`, `labels` (with `label_names`, `label_findings`), `tags` (with `tag_columns`, `iterative`),
`numbers`, `targets`; `columns`, `holdout`, `groups`, `splits`, `folds`, `division`, `tokens`, `packing`,
`batching`; then `duplicates` (with `unspaced`), `facts`, `token_facts`, which describe the result. Imports
the ground and the service rooms (settings, sample, speed, reliability, report).
"""

"""From files or the Hub to batches of token ids.

Read in the order of the flow: `files` (with `dialect`, `quotes`, `headers`, `json_records`, `reading`,
`file_errors`, `raw_files`), `corpus`, `label_column`, `labels` (with `label_names`, `label_findings`),
`holdout`, `splits`, `tokens`, `packing`, `batching`; then `duplicates`, `facts`, `token_facts`, which examine
the result. Imports the ground and the service rooms (settings, sample, speed, reliability, report).
"""

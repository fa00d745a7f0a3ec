"""One file a command, with what it alone needs; the only room that knows both wings.

Each has `main(command, args) -> exit code`, called by `lit_ft.__main__`. Nobody imports this room.
Of `repeat` read `several` (settings, data, machine), `repetition` (one run), `repeat`, `repeat_results`; of
`search` also `search_settings`, `default_space`, `study`, `trials`, `finals`, `search_results`, `search`.
"""

"""One file a command, with what it alone needs; the only room that knows both wings.

Each has `main(command, args) -> exit code`, called by `lit_ft.__main__`. Nobody imports this room.
"""

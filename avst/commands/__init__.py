"""One file a subcommand: `add_arguments(parser)` and `run(args) -> exit status`."""

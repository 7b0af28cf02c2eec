"""What kd can be asked to do."""

COMMANDS = ("clean", "distill", "dump-targets", "evaluate", "list", "predict", "summarize", "sweep", "train-teacher")

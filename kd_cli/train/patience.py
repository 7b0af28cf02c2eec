"""When a training that no longer gains on the validation split ends before its last epoch."""

from collections.abc import Sequence

from kd_cli.ranges import whole_number


def check_patience(patience: int | None) -> None:
    """Raise ConfigError unless it is a number of epochs, or None for no such end."""
    whole_number(".train.patience", patience, 1, what="a whole number of epochs", null=True)


def exhausted(epochs: Sequence[dict[str, float]], patience: int | None) -> bool:
    """Return whether the last `patience` epochs in a row had no higher validation accuracy than one before."""
    if patience is None or not epochs:
        return False
    accuracies = [epoch.get("validation_accuracy", 0.0) for epoch in epochs]
    return len(accuracies) - 1 - accuracies.index(max(accuracies)) >= patience

"""The experiments of docs/paper.md, one a file, in the order in which they run."""

from experiments import (
    assistant_chain,
    born_again,
    ensemble_mnist,
    hinton_mnist,
    logit_matching,
    missing_classes,
    regularisers,
    specialists,
    teachers_mnist,
    temperature_by_width,
)

EXPERIMENTS = (
    teachers_mnist.EXPERIMENT,
    hinton_mnist.EXPERIMENT,
    missing_classes.MISSING_THREES,
    missing_classes.ONLY_SEVENS_AND_EIGHTS,
    temperature_by_width.EXPERIMENT,
    logit_matching.EXPERIMENT,
    ensemble_mnist.EXPERIMENT,
    regularisers.EXPERIMENT,
    specialists.ON_MNIST,
    specialists.ON_CONFUSABLE,
    assistant_chain.EXPERIMENT,
    born_again.EXPERIMENT,
    missing_classes.BLACK_BOX,
    hinton_mnist.WITH_VIEWS,
)

"""The experiments of docs/paper.md, one a file, in the order in which they run."""

from experiments import (
    assistant_chain,
    born_again,
    hinton_mnist,
    logit_matching,
    regularisers,
    teachers_mnist,
    temperature_by_width,
)

EXPERIMENTS = (
    teachers_mnist.EXPERIMENT,
    hinton_mnist.EXPERIMENT,
    temperature_by_width.EXPERIMENT,
    logit_matching.EXPERIMENT,
    regularisers.EXPERIMENT,
    assistant_chain.EXPERIMENT,
    born_again.EXPERIMENT,
    hinton_mnist.WITH_VIEWS,
)

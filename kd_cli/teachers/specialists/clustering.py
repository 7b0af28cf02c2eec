"""Which classes a network confuses with each other (Hinton, Vinyals and Dean 2015, section 5.1)."""

import torch
from torch import Tensor

STARTS = 10


def confusable_sets(probabilities: Tensor, clusters: int, classes_each: int, seed: int) -> Tensor:
    """At most `clusters` sets of `classes_each` classes, int64, sorted, from a network's predictions `[N, K]`.

    The columns of the predictions' covariance matrix are clustered by mini-batch k-means; a set are the classes whose
    columns are nearest to a centre, so that sets may overlap. Of equal sets there is one.
    """
    from sklearn.cluster import MiniBatchKMeans  # takes 0.8 s

    columns = torch.cov(probabilities.double().T)
    found = MiniBatchKMeans(clusters, random_state=seed, n_init=STARTS).fit(columns.numpy())
    distances = torch.cdist(
        torch.from_numpy(found.cluster_centers_), columns, compute_mode="donot_use_mm_for_euclid_dist"
    )
    nearest = distances.argsort(dim=1, stable=True)[:, :classes_each].sort(1).values
    sets: Tensor = nearest.unique(dim=0)
    return sets

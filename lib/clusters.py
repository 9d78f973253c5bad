"""Images that look alike, told by their vectors. Pure."""

import numpy as np
from sklearn.cluster import AgglomerativeClustering
from sklearn.preprocessing import normalize

MAX_IMAGES = 2000  # all pairs are compared


def alike(vectors: np.ndarray, distance: float, *, least: int = 5) -> list[np.ndarray]:
    """Groups of images whose mean distance to each other stays below a bound (average linkage).

    Parameters
    ----------
    vectors : ndarray of shape (n, dim), float32
        At most MAX_IMAGES are looked at, the first ones.
    distance : float
        1 - cosine.
    least : int
        Images of a group; smaller ones are left out.

    Returns
    -------
    list of ndarray of int
        Places of the images of each group, the most typical first; the largest group first.
    """
    if len(vectors) < max(least, 2):
        return []
    unit = normalize(vectors[:MAX_IMAGES])
    model = AgglomerativeClustering(None, metric="cosine", linkage="average", distance_threshold=distance)
    codes = model.fit_predict(unit)
    found = []
    for code in np.unique(codes):
        places = np.flatnonzero(codes == code)
        if len(places) >= least:
            typical = unit[places] @ unit[places].mean(axis=0)
            found.append(places[np.argsort(-typical, kind="stable")])
    return sorted(found, key=lambda places: (-len(places), places[0]))

"""Manifest -> vectors: computed once an image, kept in a content-addressed cache that survives being killed.

`cache` holds the vectors, `local` and `cluster` are the engines that compute what it lacks, `embed` puts them together.
"""

from lib.embeddings.cache import (
    PART_SIZE,
    VectorFacts,
    cache_dir,
    cached_hashes,
    load_vectors,
    vector_facts,
    write_part,
)
from lib.embeddings.embedding import ENGINES, Embeddings, embed

__all__ = [
    "ENGINES",
    "PART_SIZE",
    "Embeddings",
    "VectorFacts",
    "cache_dir",
    "cached_hashes",
    "embed",
    "load_vectors",
    "vector_facts",
    "write_part",
]

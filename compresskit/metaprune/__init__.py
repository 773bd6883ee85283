"""Graph metanetworks (Liu et al., "Meta Pruning via Graph Metanetworks"): a network that rewrites networks so that they are easier to prune."""

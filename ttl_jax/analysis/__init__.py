"""What networks have learnt and what they cost: similarity, transferability, compactness."""

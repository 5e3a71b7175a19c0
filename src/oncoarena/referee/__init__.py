"""The referee: predictions and truth in, tables of estimates, comparisons and checks out; no input or output."""

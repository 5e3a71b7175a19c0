"""The report: the referee's tables in, one self-contained page out; nothing is computed here."""

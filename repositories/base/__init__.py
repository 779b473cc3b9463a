"""The parts that repositories are made of: scope, statements, sorting, search, paging, order, bin."""

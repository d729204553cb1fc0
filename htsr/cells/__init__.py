"""One step of time, one module a cell: pure functions of inputs and state on top of plain Keras layers."""

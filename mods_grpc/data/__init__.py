"""Tables and the datapool: reading, writing, their layout and their units."""

"""What the settings of a file are made of: types of fields, kinds of blocks, faults and their messages."""

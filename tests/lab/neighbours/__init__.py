"""What a VM may try in order to reach another one that has the same netvm, and whether it arrives."""

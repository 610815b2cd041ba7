"""net: the host's end of a VM's network, made of the kernel's own parts."""

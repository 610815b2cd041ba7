"""vm-launch: prepares one hypervisor and becomes it; boots its guest; stops it.

Privileges: those of the VM's own user, none more. Distrusts the guest: its console and its ready messages are
read with bounds and never reach a terminal as they are.
"""

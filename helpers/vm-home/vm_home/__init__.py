"""vm-home: makes a VM's home directory on the host from the template, once.

Privileges: those of the configured user, none more; those of root without most of its capabilities where the template
or the place of the home is not this user's. Distrusts whoever else can write where the home is to be.
"""

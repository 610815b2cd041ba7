"""cloud-hypervisor.

Its system calls and the files it opens are those of its own filters (vmm/src/seccomp_filters.rs) and sources.
"""

from vmsilo_generator.hypervisor import Needs

NEEDS = Needs(
    sockets_by_path=True,
    vsock_by_hypervisor=True,
    disks_by_path=True,
    # It confines itself further: Landlock, and a filter for each thread.
    further_calls="seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self",
    # It pins virtual CPUs and places memory where extraConfig asks for it.
    resource_calls="mbind sched_setaffinity",
)

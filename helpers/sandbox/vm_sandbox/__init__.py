"""sandbox: puts a filter on itself that logs system calls, and becomes another program.

For units whose filter is to log and not to refuse: systemd can log calls by name, but not those that it judges by
their arguments. Privileges: none. Trusts its arguments and the policies, which a unit names.
"""

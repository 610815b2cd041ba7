"""The lab: a real systemd host in namespaces of its own, with the project installed in it and real guests under it.

``tree`` and ``images`` make what it is booted from, ``supervise`` and ``inside.sh`` boot it, ``host`` is the handle
that tests and the demo hold. Needs root and the Debian archive, and nothing else.
"""

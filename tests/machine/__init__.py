"""The machine: the lab's host as a computer of its own, for what the lab's kernel may lack.

It boots Debian's kernel under QEMU, emulated, with control group controllers, Landlock, hyperthreads, an IOMMU and
PCI devices to hand on. ``disks`` makes what it is booted from, ``init.sh`` puts its root together, ``boot`` starts
it, ``agent.py`` runs in it, ``client.py`` reaches that, and ``computer`` is the handle that tests hold, the same as
the lab's. A guest in it runs on an emulated processor's virtualization, or is emulated twice: tests with guests are
few, and their guests the minimal image.
"""

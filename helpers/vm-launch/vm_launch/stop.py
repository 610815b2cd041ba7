"""ExecStop=: ask the guest to power off. ExecStopPost=: say why the hypervisor ended."""

import _socket
import os
import time

from vm_launch import ready
from vm_launch.hypervisor import find
from vm_launch.running import Running, running
from vmsilo.failure import Failure, complain
from vmsilo.notify import notify

# A hypervisor that takes longer to hear of the button would not do anything for it either.
_ANSWER_SECONDS = 5.0


def stop(path: str) -> int:
    """Press the power button and wait for the hypervisor's end, at most the plan's stop_timeout.

    Always succeeds: whatever is left, systemd kills.
    """
    if "MAINPID" not in os.environ:
        return os.EX_OK  # it ended by itself, and this is only the rest of the ceremony
    vm = running(path, seconds=_ANSWER_SECONDS)
    if vm.has_ended():
        return os.EX_OK
    notify("STATUS=powering off")
    listener = listen(vm)
    try:
        vm.hypervisor.press_power_button(vm.target)
        if not hear_out(vm, listener):
            complain("vm-launch", f"the guest did not power off within {vm.plan.stop_timeout} s")
    except Failure as failure:
        if not vm.has_ended():
            complain("vm-launch", f"cannot press the power button: {failure}")
    finally:
        if listener:
            ready.close(listener, vm.plan)
    return os.EX_OK


def listen(vm: Running) -> _socket.socket | None:
    """Listen for the guest's reports; a shutdown that nobody listens to is slow, but no failure."""
    try:
        return ready.listen(vm.plan)
    except Failure as failure:
        complain("vm-launch", str(failure))
        return None


def hear_out(vm: Running, listener: _socket.socket | None) -> bool:
    """Wait for the hypervisor's end, at most the plan's stop_timeout. Whether it came.

    systemd in the guest reports each step of its shutdown to where it reported that it was ready, and
    vhost-device-vsock lets it wait 2 s for each report that nobody takes: more than half a minute in all.
    """
    if not listener:
        return vm.has_ended(within=vm.plan.stop_timeout)
    deadline = time.monotonic() + vm.plan.stop_timeout
    cid = None if vm.plan.vsock else vm.plan.cid
    while True:
        outcome = ready.wait(listener, cid=cid, process=vm.process, deadline=deadline, progress=lambda _: None)
        if outcome is not ready.Outcome.READY:
            return outcome is ready.Outcome.DIED


def explain(name: str) -> int:
    """Say in one line why the hypervisor *name* ended, unless nothing is remarkable about it.

    systemd.exec(5), "Environment Variables Set or Propagated by the Service Manager", says what is read here. An
    exit status of vm-launch itself has been explained by then, and a signal is not the hypervisor's choice.
    """
    if os.environ.get("SERVICE_RESULT") == "oom-kill":
        return tell("the host ran out of memory for this VM")
    if os.environ.get("EXIT_CODE") in ("killed", "dumped"):
        signal = os.environ.get("EXIT_STATUS", "?")
        return os.EX_OK if signal in ("TERM", "KILL") else tell(f"{name} was ended by signal {signal}")
    try:
        status = int(os.environ.get("EXIT_STATUS", "0"))
    except ValueError:
        return os.EX_OK
    if status == 0 or os.EX_USAGE <= status <= os.EX_CONFIG or status >= _SYSTEMD_STATUS:
        return os.EX_OK
    return tell(find(name).explain(status))


_SYSTEMD_STATUS = 200  # from here on systemd's own, for what failed before the program ran


def tell(text: str) -> int:
    complain("vm-launch", text)
    notify(f"STATUS={text}")
    return os.EX_OK

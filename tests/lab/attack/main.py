"""The command line: attack.main SCENE VERB.

``attack`` makes all attempts and prints how each ended, as JSON on standard output. ``leave`` leaves its marks,
prints where, and stays until it is ended; ``seek`` looks for them. ``notify`` tells the service manager lies, and
stays as well.
"""

import os
import signal
import sys

from lab.attack import files, kernel, meeting, network, processes, trial


def main(arguments: list[str]) -> int:
    path, verb = arguments
    # Attempts are processes of ours that nobody waits for, since not every place lets one wait.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with open(path, encoding="utf-8") as file:
        scene = trial.scene(file.read())
    if verb == "leave":
        say([trial.Row("meeting", place, succeeded=True, detail="") for place in meeting.leave(scene)])
        signal.pause()
    if verb == "notify":
        meeting.notify()
        signal.pause()
    if verb == "seek":
        say([trial.perform(attempt) for attempt in meeting.seek(scene)])
        return 0
    scene = scene._replace(own=own())
    attempts = [*files.attempts(scene), *processes.attempts(scene), *network.attempts(scene), *kernel.attempts(scene)]
    say([trial.perform(attempt) for attempt in attempts])
    return 0


def own() -> str:
    """A directory that this service may write."""
    candidates = (os.environ.get("STATE_DIRECTORY", ""), os.environ.get("RUNTIME_DIRECTORY", ""), "/share", "/tmp")
    return next((candidate for candidate in candidates if candidate and os.access(candidate, os.W_OK)), "/nowhere")


def say(rows: list[trial.Row]) -> None:
    sys.stdout.write(trial.report(rows))
    sys.stdout.flush()

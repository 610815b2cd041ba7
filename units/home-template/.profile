# Read by login shells, before anything else of yours. This file, like all of this directory, came from
# /var/lib/vmsilo/home-template on the host when the VM was first started; it is yours now.

if [ -n "$BASH_VERSION" ] && [ -f "$HOME/.bashrc" ]; then
    . "$HOME/.bashrc"
fi

for directory in "$HOME/bin" "$HOME/.local/bin"; do
    if [ -d "$directory" ]; then
        PATH=$directory:$PATH
    fi
done
unset directory

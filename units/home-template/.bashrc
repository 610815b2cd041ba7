# Read by interactive shells.

case $- in
*i*) ;;
*) return ;;
esac

HISTCONTROL=ignoreboth
HISTSIZE=5000
HISTFILESIZE=10000
shopt -s histappend checkwinsize

# The VM's name comes first: it says where you are.
if [ "$(id -u)" = 0 ]; then
    PS1='\[\e[1;31m\]\h\[\e[0m\]:\w# '
else
    PS1='\[\e[1;32m\]\h\[\e[0m\]:\w$ '
fi

alias ls='ls --color=auto'
alias ll='ls -l'
alias la='ls -A'
alias grep='grep --color=auto'

if ! shopt -oq posix && [ -f /usr/share/bash-completion/bash_completion ]; then
    . /usr/share/bash-completion/bash_completion
fi

# make test, make demo: install what they need (Debian packages, a Python environment) themselves, as root.
# make install: DESTDIR, and every directory below, may be given.
# make lab LAB_SUITE=bookworm: on a host with Debian 12 and its systemd 252, instead of Debian 13 with 257.
# make bench BENCH=generator: one table of those that tests/bench/run.py --help lists.

prefix       = /usr
bindir       = $(prefix)/bin
libexecdir   = $(prefix)/libexec
datadir      = $(prefix)/share
mandir       = $(datadir)/man
helperdir    = $(libexecdir)/vmsilo
pkgdir       = $(prefix)/lib/vmsilo
unitdir      = $(prefix)/lib/systemd/system
generatordir = $(prefix)/lib/systemd/system-generators
udevdir      = $(prefix)/lib/udev/rules.d
networkdir   = $(prefix)/lib/systemd/network
nmdir        = $(prefix)/lib/NetworkManager/conf.d
polkitdir    = $(datadir)/polkit-1/rules.d
completiondir = $(datadir)/bash-completion/completions
docdir       = $(datadir)/doc/vmsilo
sharedir     = $(datadir)/vmsilo
python       = /usr/bin/python3
INSTALL      = install

# For make run with next to no environment.
export PATH := $(if $(PATH),$(PATH):)/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME := $(or $(HOME),/root)

packages  = $(patsubst %/__init__.py,%,$(wildcard vmsilo/__init__.py generators/*/__init__.py helpers/*/*/__init__.py))
# Launchers: helpers that units start, programs of guests, and all others are commands for people.
launchers = $(shell find helpers -mindepth 2 -maxdepth 2 -type f -perm -100 | sort)
guests    = helpers/vsock-cmd/agent helpers/guest-network/guest-network helpers/name-rules/name-rules
internals = helpers/name-rules/name-rules helpers/net/net helpers/sandbox/sandbox helpers/vm-home/vm-home helpers/vm-launch/vm-launch helpers/vm-pci/vm-pci helpers/vsock-cmd/vsock-cmd
# What units start and people, too.
both      = helpers/vm-pci/vm-pci
commands  = $(filter-out $(guests) $(internals),$(launchers)) $(both)
units     = $(wildcard units/*.slice units/*.target units/*.service units/*.socket units/*.timer)
rules     = $(wildcard units/polkit/*.rules)
# What keeps others from managing interfaces of ours.
udevrules = $(wildcard units/udev/*.rules)
networks  = $(wildcard units/network/*)
nmconfs   = $(wildcard units/NetworkManager/*.conf)
completions = $(wildcard units/bash-completion/*)
pages     = $(wildcard man/*.[1-8])
VENV      = $(shell tests/deps --print-venv)
lab_suite = $(if $(LAB_SUITE),VMSILO_LAB_SUITE=$(LAB_SUITE))

all:
	@echo 'Nothing needs building. Targets: test unit lint lab machine demo bench man install uninstall clean'

deps:
	@tests/deps

test: deps
	$(VENV)/bin/python -m pytest $(PYTEST_ARGS)

unit: deps
	$(VENV)/bin/python -m pytest -m 'not lab and not machine' $(PYTEST_ARGS)

lab: deps
	$(lab_suite) $(VENV)/bin/python -m pytest tests/lab $(PYTEST_ARGS)

machine: deps
	$(VENV)/bin/python -m pytest tests/machine $(PYTEST_ARGS)

lint: deps
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	mandoc -T lint -W warning $(pages)

demo: deps
	@PYTHONPATH=.:tests $(VENV)/bin/python -m lab.demo

bench: deps
	@$(VENV)/bin/python tests/bench/run.py $(BENCH)

man:
	mandoc -T utf8 $(pages) | $${PAGER:-cat}

# A launcher of the checkout finds its modules by its own path, an installed one in pkgdir.
launcher = sed '1s|/usr/bin/python3|$(python)|; 3s|.*|sys.path.insert(0, "$(pkgdir)")|'

install:
	@set -e; umask 022; \
	put() { $(INSTALL) -D -m "$$1" "$$2" "$(DESTDIR)$$3"; }; \
	tree() { (cd "$$1" && find . ! -name '*.pyc' ! -type d) | sort | while read -r file; do \
	    if [ -L "$$1/$$file" ]; then \
	        $(INSTALL) -d "$(DESTDIR)$$2/$${file%/*}"; ln -sfn "$$(readlink "$$1/$$file")" "$(DESTDIR)$$2/$$file"; \
	    elif [ -x "$$1/$$file" ]; then put 755 "$$1/$$file" "$$2/$$file"; \
	    else put 644 "$$1/$$file" "$$2/$$file"; fi; done; }; \
	launch() { $(INSTALL) -d "$(DESTDIR)$$2"; $(launcher) "$$1" >"$(DESTDIR)$$2/$${1##*/}"; \
	    chmod 755 "$(DESTDIR)$$2/$${1##*/}"; }; \
	for package in $(packages); do tree $$package $(pkgdir)/$${package##*/}; done; \
	sed -i -e 's|^LIBEXEC = .*|LIBEXEC = "$(helperdir)"|' -e 's|^SHARE = .*|SHARE = "$(sharedir)"|' \
	    "$(DESTDIR)$(pkgdir)/vmsilo/paths.py"; \
	tree units/home-template $(sharedir)/home-template; \
	sed -i 's|^POLICIES = .*|POLICIES = "$(pkgdir)/seccomp"|' "$(DESTDIR)$(pkgdir)/vmsilo/paths.py"; \
	tree units/seccomp $(pkgdir)/seccomp; \
	tree units/guest $(pkgdir)/guest; \
	for file in $(guests); do launch $$file $(pkgdir)/guest; done; \
	for file in $(commands); do launch $$file $(bindir); done; \
	for file in $(internals); do launch $$file $(helperdir); done; \
	launch generators/vmsilo-generator $(generatordir); \
	for file in $(units); do put 644 $$file $(unitdir)/$${file##*/}; done; \
	sed -i 's|/usr/libexec/vmsilo/|$(helperdir)/|' "$(DESTDIR)$(unitdir)/vmsilo-trim.service"; \
	for file in $(rules); do put 644 $$file $(polkitdir)/$${file##*/}; done; \
	for file in $(udevrules); do put 644 $$file $(udevdir)/$${file##*/}; done; \
	for file in $(networks); do put 644 $$file $(networkdir)/$${file##*/}; done; \
	for file in $(nmconfs); do put 644 $$file $(nmdir)/$${file##*/}; done; \
	for file in $(completions); do put 644 $$file $(completiondir)/$${file##*/}; done; \
	for file in $(pages); do put 644 $$file $(mandir)/man$${file##*.}/$${file##*/}; done; \
	for file in README.md CHANGELOG.md LICENSE; do put 644 $$file $(docdir)/$$file; done; \
	$(python) -I -m compileall -q $(if $(DESTDIR),-s "$(DESTDIR)" -p /) "$(DESTDIR)$(pkgdir)"

uninstall:
	rm -rf "$(DESTDIR)$(pkgdir)" "$(DESTDIR)$(helperdir)" "$(DESTDIR)$(docdir)" "$(DESTDIR)$(sharedir)"
	rm -f $(foreach file,$(notdir $(commands)),"$(DESTDIR)$(bindir)/$(file)") \
	    "$(DESTDIR)$(generatordir)/vmsilo-generator" \
	    $(foreach file,$(notdir $(units)),"$(DESTDIR)$(unitdir)/$(file)") \
	    $(foreach file,$(notdir $(rules)),"$(DESTDIR)$(polkitdir)/$(file)") \
	    $(foreach file,$(notdir $(udevrules)),"$(DESTDIR)$(udevdir)/$(file)") \
	    $(foreach file,$(notdir $(networks)),"$(DESTDIR)$(networkdir)/$(file)") \
	    $(foreach file,$(notdir $(nmconfs)),"$(DESTDIR)$(nmdir)/$(file)") \
	    $(foreach file,$(notdir $(completions)),"$(DESTDIR)$(completiondir)/$(file)") \
	    $(foreach file,$(pages),"$(DESTDIR)$(mandir)/man$(lastword $(subst ., ,$(file)))/$(notdir $(file))")

clean:
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -rf build .mypy_cache .pytest_cache .ruff_cache .hypothesis

.PHONY: all deps test unit lab machine lint demo bench man install uninstall clean

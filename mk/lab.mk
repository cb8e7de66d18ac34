# SPDX-License-Identifier: GPL-3.0-or-later
# The lab: QEMU machines with a real kernel (tests/lab/README.md).
LAB_PYTHON = $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))
LAB = $(LAB_PYTHON) tests/lab/lab.py
NAME ?= demo
HOSTS ?= 2
KERNEL ?= 6.1
PMEM ?= e820
BOOT ?= snapshot
LAB_ARCH ?= amd64
HOST ?= node1

.PHONY: lab-image lab-up lab-ssh lab-status lab-down
lab-image: ## build and cache the machine image (KERNEL=6.1 LAB_ARCH=amd64|arm64)
	@$(LAB) image --arch $(LAB_ARCH) --kernel $(KERNEL)

lab-up: ## start QEMU machines (HOSTS=2 KERNEL=6.1|6.12|7.3 PMEM=e820|nfit|labels|devicetree|none BOOT=snapshot|grub LAB_ARCH=amd64|arm64 NAME=demo)
	@$(LAB) up --name $(NAME) --arch $(LAB_ARCH) --hosts $(HOSTS) --kernel $(KERNEL) --pmem $(PMEM) --boot $(BOOT)

lab-ssh: ## log in to a machine (HOST=node1 NAME=demo)
	@$(LAB) ssh --name $(NAME) $(HOST)

lab-status: ## which machines run and answer (NAME=demo)
	@$(LAB) status --name $(NAME)

lab-down: ## end the machines (NAME=demo)
	@$(LAB) down --name $(NAME)

.PHONY: kills
kills: deps ## SIGKILL for ansible-playbook at 30 moments of a cycle without the agent, on two machines (KILLS=30)
	$(BIN)/python tests/lab/kills.py --kills $(or $(KILLS),30)

.PHONY: rollout-kills
rollout-kills: deps ## SIGKILL for rolling_reboot at 20 moments, over 4 lab machines, and runs that resume (KILLS=20)
	$(BIN)/python tests/lab/rollout_kills.py --kills $(or $(KILLS),20)

# SPDX-License-Identifier: GPL-3.0-or-later
# Rollouts: over hosts that do not exist (tests/fleet), where nothing but the controller is real, and over lab machines.
FLEET_HOSTS ?= 10,100,300,1000

.PHONY: test-fleet
test-fleet: deps ## test rolling_reboot with ansible-playbook over stand-in hosts
	$(BIN)/python -m pytest -q tests/fleet

.PHONY: fleet-kills
fleet-kills: deps ## SIGKILL for rolling_reboot at 20 moments, over 4 stand-in hosts, and a run that resumes (KILLS=20)
	$(BIN)/python tests/fleet/kills.py --kills $(or $(KILLS),20)

.PHONY: bench-fleet-sim
bench-fleet-sim: deps ## measure the controller over stand-in hosts: time, memory, journal (FLEET_HOSTS=10,100,300,1000)
	$(BIN)/python tests/fleet/simulate.py --hosts $(FLEET_HOSTS)

.PHONY: bench-fleet
bench-fleet: deps ## measure what a rolling reboot costs the controller, on 1, 2, 4 and 6 lab machines
	$(BIN)/python tests/bench/rollout_cost.py

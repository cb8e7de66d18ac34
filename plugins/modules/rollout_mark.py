"""Placeholder."""

from ansible.module_utils.basic import AnsibleModule

AnsibleModule(argument_spec={"run": {}, "rollout": {}, "outcome": {}}, supports_check_mode=True).exit_json()

"""Placeholder."""


def check(variables):
    return []

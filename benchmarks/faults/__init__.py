"""Faults injected into real trainings and commands: does each go on as if nothing had happened, or say what to do?"""

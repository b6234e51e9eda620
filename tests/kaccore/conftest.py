from hypothesis import settings

# The same examples on every run, and no limit on the time one of them takes: a busy machine is not
# a fault.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

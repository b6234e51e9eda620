"""Ray Tune's trials, which complete stages under leases, and Ray Train's worker groups."""

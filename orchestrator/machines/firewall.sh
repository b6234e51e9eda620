#!/usr/bin/env bash
# firewall.sh ADDRESS...: close this machine but for SSH, and for everything from the machines of the cluster, whose
# addresses are given; what a security group is on AWS. Run it as root on each machine of your own, and again when a
# machine is added; `nft delete table inet kacflow` undoes it, and so does a restart of the machine.
set -euo pipefail
[ $# -gt 0 ] || { echo "firewall.sh: name the addresses of all machines of the cluster" >&2; exit 2; }
command -v nft > /dev/null || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq nftables; }
ALL=$(IFS=,; echo "$*")
nft -f - << END
table inet kacflow
delete table inet kacflow
table inet kacflow {
  chain input {
    type filter hook input priority 0; policy drop;
    iif "lo" accept
    ct state established,related accept
    meta l4proto { icmp, icmpv6 } accept
    tcp dport 22 accept
    ip saddr { $ALL } accept
  }
}
END

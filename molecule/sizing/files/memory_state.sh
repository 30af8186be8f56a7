#!/bin/sh
# What the kernel says of this container's memory, as JSON: the limit, and how many processes it has killed so far.
set -eu
v1=/sys/fs/cgroup/memory
v2=/sys/fs/cgroup
if [ -f "$v1/memory.oom_control" ]; then
  limit=$(cat "$v1/memory.limit_in_bytes")
  events=$v1/memory.oom_control
else
  limit=$(cat "$v2/memory.max")
  events=$v2/memory.events
fi
kills=$(awk '$1 == "oom_kill" { print $2 }' "$events")
total=$(awk '$1 == "MemTotal:" { print $2 * 1024 }' /proc/meminfo)
printf '{"limit": %s, "oom_kills": %s, "host": %.0f}\n' "$limit" "$kills" "$total"

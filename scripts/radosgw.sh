#!/usr/bin/env bash
# An S3 server that is not ours, for the tests: Ceph's gateway on 127.0.0.1, with a store of one node in memory.
#
#   scripts/radosgw.sh DIR PORT
#
# Runs until its standard input ends, then leaves nothing running; DIR (new; below 60 characters, since sockets live in
# it) is the caller's to delete. Takes PORT for S3, PORT+1, and one free port up to PORT+200. Prints, once S3 answers:
#
#   ready URL ACCESS_KEY SECRET_KEY
#
# and then takes a line a command, each answered by `done` or `failed`:
#
#   limit N   at most N requests at once; those above get 503 SlowDown
#   kill      ends the gateway as a crash would (SIGKILL)
#   revive    starts it again; the store kept what was put
#
# Needs the Debian packages radosgw, ceph-mon and ceph-osd (16.2).
set -euo pipefail

[ $# -eq 2 ] || { sed -n '2,18s/^# \{0,1\}//p' "$0" >&2; exit 2; }
mkdir -p "$1/mon.a" "$1/osd.0" "$1/run" "$1/log"
directory=$(cd "$1" && pwd)
port=$2
access_key=TESTACCESSKEY0000001
secret_key=testsecretkey00000000000000000000000001
[ ! -e "$directory/ceph.conf" ] || { echo "$directory is in use" >&2; exit 1; }

uuid() { cat /proc/sys/kernel/random/uuid; }
cluster=$(uuid)

# `ms_mon_*_mode`: the gateway asks for encryption by default, which cannot be had without authentication, and waits for
# ever. `tcp_nodelay`: without it an answer takes 40 ms longer.
cat >"$directory/ceph.conf" <<CONF
[global]
fsid = $cluster
mon_host = [v2:127.0.0.1:$((port + 1))]
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_msgr1 = false
ms_bind_port_min = $((port + 2))
ms_bind_port_max = $((port + 200))
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
ms_mon_client_mode = crc
ms_mon_cluster_mode = crc
ms_mon_service_mode = crc
keyring = /dev/null
run_dir = $directory/run
pid_file = $directory/run/\$name.pid
admin_socket = $directory/run/\$name.asok
log_file = $directory/log/\$name.log
crash_dir = $directory/log
mon_data = $directory/mon.\$id
osd_data = $directory/osd.\$id
osd_objectstore = memstore
memstore_device_bytes = 1073741824
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 1
osd_pool_default_pgp_num = 1
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
osd_crush_initial_weight = 1
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 1000
mon_data_avail_crit = 1
mon_data_avail_warn = 1
mon_cluster_log_file = $directory/log/cluster.log
auth_allow_insecure_global_id_reclaim = false
paxos_propose_interval = 0.05
[mon]
mon_election_timeout = 1
[client]
rgw_frontends = beast endpoint=127.0.0.1:$port tcp_nodelay=1
rgw_rados_pool_pg_num_min = 1
rgw_thread_pool_size = 32
rgw_override_bucket_index_max_shards = 1
rgw_dynamic_resharding = false
rgw_enable_gc_threads = false
rgw_enable_lc_threads = false
rgw_enable_quota_threads = false
rgw_run_sync_thread = false
rgw_relaxed_region_enforcement = true
rgw_data = $directory/run
CONF
export CEPH_CONF=$directory/ceph.conf

# Ends what this cluster started: its environment names the configuration, so no other process can be meant.
end() {
  local file=$directory/run/$1.pid pid
  pid=$(cat "$file" 2>/dev/null) && grep -qz "^CEPH_CONF=$CEPH_CONF$" "/proc/$pid/environ" 2>/dev/null || return 0
  kill -9 "$pid"
  for _ in $(seq 100); do
    # Gone, or a zombie that nobody has waited for.
    grep -qs '^State:[[:space:]]*[A-WYa-z]' "/proc/$pid/status" || break
    sleep 0.05
  done
  rm -f "$file" "$directory/run/$1.asok"
}
end_all() { for name in client.rgw osd.0 mon.a; do end "$name"; done; }
trap end_all EXIT

quietly() {
  timeout 60 "$@" >>"$directory/log/start.txt" 2>&1 </dev/null || {
    echo "failed: $*" >&2
    tail -n 5 "$directory/log/start.txt" >&2
    return 1
  }
}

start_gateway() {
  quietly radosgw -n client.rgw
  for _ in $(seq 300); do
    # Unsigned, so it is refused or answered with an empty list: either way it is there.
    (exec 3<>"/dev/tcp/127.0.0.1/$port" && printf 'GET / HTTP/1.0\r\n\r\n' >&3 && read -r -t 2 _ <&3) 2>/dev/null && return
    sleep 0.1
  done
  echo "no answer on port $port after 30 s" >&2
  return 1
}

limit() { quietly ceph --admin-daemon "$directory/run/client.rgw.asok" config set rgw_max_concurrent_requests "$1"; }

quietly monmaptool --create --clobber --addv a "[v2:127.0.0.1:$((port + 1))]" --fsid "$cluster" "$directory/monmap"
quietly ceph-mon -i a --mkfs --monmap "$directory/monmap"
quietly ceph-mon -i a
osd=$(uuid)
quietly ceph osd new "$osd" 0
quietly ceph-osd -i 0 --mkfs --osd-uuid "$osd"
quietly ceph-osd -i 0
quietly radosgw-admin user create --uid=test --display-name=test --access-key="$access_key" --secret-key="$secret_key"
start_gateway
echo "ready http://127.0.0.1:$port $access_key $secret_key"

while read -r command argument; do
  case $command in
    limit) limit "$argument" ;;
    kill) end client.rgw ;;
    revive) start_gateway ;;
    *) false ;;
  esac && echo "done" || echo "failed"
done

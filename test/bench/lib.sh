# shellcheck shell=bash
# What the measurements share; source it, don't run it.  Whoever does says in bash's
# own variable `seconds` how long a turn takes: SECONDS counts from then on.
#
#   work, data, begin, here      this run's folder, the server's data, the start, this folder
#   rounds, seconds, clients, tokens   the settings
#   listen, port                 the address where the server listens beside its socket, if the
#                                caller sets it, and its port
#   progress TEXT                say on stderr what begins
#   psql ...                     in the measured database, as superuser
#   install_and_start            build, install, start a server, make the database
#   machine                      what is measured, and on what, in one line
#   stop_more                    the caller's own: called when the run ends
. "${BASH_SOURCE[0]%/*}/../common.sh"
cd / # where the unprivileged user may be, too

rounds=${ROUNDS:-5}
[ "$seconds" != 0 ] || seconds=3
clients=${CLIENTS:-8}
tokens=${TOKENS:-100000}
begin=$(date +%s)
here=$tr_top/test/bench

work='' data='' listen='' port=5432
stop_more()
{
	:
}

finish()
{
	local status=$?
	trap - EXIT
	trap '' HUP INT TERM
	if [ $status != 0 ] && [ -n "$work" ] && [ -s "$work/log" ]; then
		echo "the end of the server's log:" >&2
		tail -n 20 "$work/log" >&2
	fi
	stop_more
	if [ -n "$data" ] && [ -e "$data/postmaster.pid" ]; then
		tr_as_user "$bindir/pg_ctl" -D "$data" -m immediate stop > /dev/null || tr_stop_servers "$work"
	fi
	[ -z "$work" ] || rm -rf "$work"
	exit $status
}
trap finish EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

progress()
{
	printf '%4d s  %s\n' $(($(date +%s) - begin)) "$*" >&2
}

psql()
{
	"$bindir/psql" -X -q -A -t -v ON_ERROR_STOP=1 "$@"
}

start_server()
{
	data=$work/data
	tr_as_user mkdir -m 700 "$work/socket"
	tr_as_user "$bindir/initdb" -D "$data" -U postgres -A trust -E UTF8 --no-locale > "$work/log" 2>&1 ||
		tr_die 'initdb failed'
	# Large enough that neither eviction nor a checkpoint falls into a turn.  JIT
	# compiles loops that no application has.  Room for the use of every token, as an
	# application has that uses so many.
	tr_as_user tee -a "$data/postgresql.conf" > /dev/null <<- END
		shared_preload_libraries = 'token_rotation'
		listen_addresses = '$listen'
		port = $port
		unix_socket_directories = '$work/socket'
		shared_buffers = 512MB
		max_wal_size = 8GB
		checkpoint_timeout = 1h
		jit = off
		token_rotation.usage_size = $((2 * tokens + 512))
	END
	: > "$work/log"
	[ "$(id -u)" != 0 ] || chown "${TR_USER:-postgres}:" "$work/log"
	tr_as_user "$bindir/pg_ctl" -D "$data" -l "$work/log" -w start > /dev/null || tr_die 'the server did not start'
	export PGHOST=$work/socket PGPORT=$port PGDATABASE=postgres PGUSER=postgres
	export PGOPTIONS='-c client_min_messages=warning'
	psql -c 'CREATE DATABASE bench'
	PGDATABASE=bench
}

install_and_start()
{
	local name
	tr_server
	for name in "${!PG@}"; do
		case $name in PG_*) ;; *) unset "$name" ;; esac
	done
	work=$(tr_workdir)
	progress 'building and installing'
	tr_copy "$work/tree"
	tr_install "$work/tree" > "$work/build.log" || { cat "$work/build.log" >&2; tr_die 'could not build and install'; }
	start_server
}

machine()
{
	printf '%s, %s × %s, %s, %s' "$(psql -c "SELECT split_part(version(), ' (', 1)")" \
		"$(nproc)" "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" \
		"$(uname -sm)" "$(df --output=fstype "$data" | tail -n 1)"
}

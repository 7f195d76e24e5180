# shellcheck shell=bash
# What the programs in test/chaos share: servers, and the client with its load.
# Source it, don't run it.
#
#   chaos_build                compile client and checker
#   chaos_init NAME PORT       a server with the extension and what the client needs
#   chaos_start, chaos_stop NAME MODE   (chaos_env: what comes before the command, such as env X=y)
#   chaos_start_due            start rotations (tr_rotate_due), if there is a server to do it
#   chaos_consume              read events and acknowledge them, as far as there is a server
#   chaos_new_key [NAME]       add a server key, and have a server read it
#   chaos_client FOLDER V W    start the client: validators, writers
#   say COMMAND                tell it something; its answer is in $answer
#   chaos_rules FILE...        check the tables (state.sql, cache.sql, stat.sql, events.sql), one line of TAP a rule
#   chaos_check NAME MIN MIN   stop both, and check the history
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

work='' failures=0 chaos_env=()

# The last word: stop everything, keep the folder only when something failed.
chaos_finish()
{
	local status=$?
	trap - EXIT
	[ $status = 0 ] || [ $failures != 0 ] || not_ok 'ran to its end'
	trap '' HUP INT TERM
	[ -z "${client_PID:-}" ] || kill "$client_PID" 2> /dev/null || true
	if [ -n "$work" ]; then
		tr_stop_servers "$work"
		if [ $status = 0 ]; then
			rm -rf "$work"
		else
			echo "# kept for reading: $work"
		fi
	fi
	exit $status
}

chaos_prepare()
{
	trap chaos_finish EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
	local name
	for name in "${!PG@}"; do
		case $name in PG_*) ;; *) unset "$name" ;; esac
	done
	tr_server
	work=$(tr_workdir)
	tr_copy "$work/tree"
	chaos_here=$work/tree/test/chaos # where the unprivileged user may read
	chaos_build
	tr_copy_server "$work/server"
	tr_install "$work/tree" > "$work/build.log" 2>&1 || { cat "$work/build.log" >&2; tr_die 'could not build and install'; }
	tr_as_user mkdir -m 700 "$work/socket"
	export PGHOST=$work/socket PGDATABASE=postgres PGUSER=postgres
}

chaos_build()
{
	local flags libdir
	libdir=$("$PG_CONFIG" --libdir)
	flags=(-O2 -g -std=gnu11 -Wall -Wextra -I"$("$PG_CONFIG" --includedir)" -L"$libdir" -Wl,-rpath,"$libdir")
	tr_as_user "${CC:-cc}" "${flags[@]}" -pthread -o "$work/client" \
		"$chaos_here"/{client,session,validate,change}.c -lpq
	tr_as_user "${CC:-cc}" "${flags[@]}" -o "$work/check" "$chaos_here"/{check,past}.c
}

ok()
{
	echo "ok - $*"
}

not_ok()
{
	echo "not ok - $*"
	failures=$((failures + 1))
}

psql()
{
	"$bindir/psql" -X -q -A -t -v ON_ERROR_STOP=1 "$@"
}

# fsync = off: what the tests kill is processes, and the operating system keeps
# what a process has written.  A change that never left the server's memory is
# lost all the same, and a WAL writer that comes every ten seconds leaves it
# there.  Small buffers are quickly made again.  The leeway is 0 so that ends
# are sharp.
chaos_init()
{
	local data=$work/$1 i
	chaos_new_key
	tr_as_user "$bindir/initdb" -D "$data" -U postgres -A trust -E UTF8 --no-locale --no-sync > "$work/initdb.log" 2>&1 ||
		tr_die 'initdb failed'
	tr_as_user tee -a "$data/postgresql.conf" > /dev/null <<- END
		shared_preload_libraries = 'token_rotation'
		listen_addresses = ''
		unix_socket_directories = '$work/socket'
		port = $2
		max_connections = 60
		max_pred_locks_per_transaction = 1024
		shared_buffers = 16MB
		fsync = off
		wal_writer_delay = 10s
		wal_retrieve_retry_interval = 100ms
		restart_after_crash = on
		jit = off
		token_rotation.leeway = 0
		token_rotation.worker_nap = 200ms
		token_rotation.ring_size = 8192
		token_rotation.key_file = '$work/keys'
	END
	chaos_start "$1"
	export PGPORT=$2
	psql <<- 'END'
		SET client_min_messages = warning;
		CREATE EXTENSION token_rotation CASCADE;
	END
	for ((i = 0; i < 4; i++)); do
		psql -c "CREATE ROLE realm$i"
	done
	psql <<- 'END'
		INSERT INTO token_rotation.policy (name, ttl, overlap, replay_window)
		SELECT 'chaos' || i, CASE i WHEN 8 THEN interval '3 seconds' ELSE '1 day' END, '1 hour', '1 hour'
		FROM generate_series(0, 8) i;
		-- what the server starts of these may be claimed as long as the token lives
		UPDATE token_rotation.policy SET rotate_after = '1 second', refresh_before = '1 day' WHERE name < 'chaos4';
		UPDATE token_rotation.policy SET overlap_starts = 'first_use' WHERE name IN ('chaos1', 'chaos3', 'chaos5', 'chaos7');
		-- history shortens some lives, to what no run lasts
		UPDATE token_rotation.policy SET min_ttl = '12 hours' WHERE name IN ('chaos3', 'chaos4');
		INSERT INTO token_rotation.risk_rule (policy, kind, pattern, score, within)
		SELECT p, 'history', k, 40, '1 second' FROM unnest('{chaos3,chaos4}'::text[]) p, unnest('{refusals,reuse,dormancy}'::text[]) k;
		-- what is delivered is of clients that nobody plays
		INSERT INTO token_rotation.policy (name, overlap, rotate_after, delivery) VALUES ('sealed', '1 day', '1 second', 'sealed');
	END
	psql -c "SELECT tr_set_delivery_key('sealed', '$(cat "$chaos_here/../public_key.asc")')" > /dev/null
}

# Have the server start rotations while the client works; whatever comes between.
chaos_start_due()
{
	psql -c "SELECT count(tr_issue('sealed', 'sealed')) FROM generate_series(1, 3)" \
		-c "SELECT count(*) FROM tr_rotate_due('sealed', 20)" > /dev/null 2>&1 || true
	psql -c 'SELECT count(*) FROM tr_rotate_due(max_tokens => 50)' > /dev/null 2>&1 || true
}

# Take events and acknowledge them, page by page, while the client works, likewise.
chaos_consume()
{
	while [ "$(psql 2> /dev/null <<- 'END'
		WITH page AS MATERIALIZED (SELECT e.position, e.seq FROM tr_events('chaos', 200) e),
			kept AS (INSERT INTO consumed SELECT p.position, p.seq FROM page p)
		SELECT tr_ack('chaos', max(p.position)) > 0 FROM page p HAVING count(*) > 0;
	END
	)" = t ]; do :; done
}

# All servers of a run have the same file.  There is room for 32 keys.
chaos_keys=0
chaos_new_key()
{
	[ $chaos_keys -lt 32 ] || return 0
	chaos_keys=$((chaos_keys + 1))
	tr_as_user sh -c "umask 077 && echo $chaos_keys $(od -An -tx1 -N32 /dev/urandom | tr -d ' \n') >> '$work/keys'"
	[ $# = 0 ] || tr_as_user "$bindir/pg_ctl" -D "$work/$1" reload > /dev/null || tr_die 'the server was not reloaded'
}

chaos_start()
{
	tr_as_user "${chaos_env[@]}" "$bindir/pg_ctl" -D "$work/$1" -l "$work/$1.log" -w -t 120 start > "$work/start.out" 2>&1 ||
		{ tail -n 30 "$work/start.out" "$work/$1.log" >&2; tr_die 'the server did not start'; }
}

chaos_stop()
{
	tr_as_user "$bindir/pg_ctl" -D "$work/$1" -m "$2" -w -t 120 stop > /dev/null || tr_die 'the server did not stop'
}

chaos_client()
{
	tr_as_user mkdir "$1"
	coproc client { tr_as_user "$work/client" "$@"; }
	say "server host=$PGHOST port=$PGPORT dbname=$PGDATABASE user=$PGUSER"
}

answer=''
say()
{
	echo "$*" >&"${client[1]}" || tr_die "the client is gone: $*"
	read -r answer <&"${client[0]}" || tr_die "the client failed at: $*"
	answer=${answer#ok}
	answer=${answer# }
}

# Stop client and server NAME, and check the history: at least that many
# validations, and kills inside a verb.
chaos_check()
{
	local pid=$client_PID reissued
	say stop
	wait "$pid" || tr_die 'the client failed'
	client_PID=
	reissued=$(psql -c "SELECT count(*) FROM token_rotation.audit WHERE event = 'reissued'")
	chaos_stop "$1" fast
	if grep -hE 'PANIC: |TRAP: |terminated by signal ([4678]|11)\b' "$work"/*.log | sed 's/^/# /' | head -n 20 | grep .; then
		not_ok 'no server process crashed by itself'
	else
		ok 'no server process crashed by itself'
	fi
	tr_as_user "$work/check" "$work/history" "$2" "$3" "$reissued" || failures=$((failures + 1))
}

# Wait until the worker has filled the cache.
chaos_wait_cache()
{
	local i complete
	for ((i = 0; i < 600; i++)); do
		complete=$(psql -c "SELECT count(*) FROM token_rotation.token_cache WHERE token_id = '00000000-0000-0000-0000-000000000000'") ||
			return 1
		[ "$complete" != 1 ] || return 0
		sleep 0.05
	done
	return 1
}

# Check the tables by these files, each a query of rules and how many rows break
# them.  With chaos_quiet set only what is broken is told, and when.
chaos_quiet=
chaos_rules()
{
	local file rule count
	for file in "$@"; do
		psql -F '|' -f "$chaos_here/$file.sql" > "$work/rules" || { not_ok "$file.sql${chaos_quiet:+, $chaos_quiet}"; continue; }
		while IFS='|' read -r rule count; do
			if [ "$count" != 0 ]; then
				not_ok "$rule ($count)${chaos_quiet:+, $chaos_quiet}"
			elif [ -z "$chaos_quiet" ]; then
				ok "$rule"
			fi
		done < "$work/rules"
	done
}

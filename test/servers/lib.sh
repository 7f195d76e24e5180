# shellcheck shell=bash
# What the programs of this folder share; source it, don't run it.
#
#   tr_kept NAME                 set `dir` to a kept server's folder, made if it is missing
#   tr_in_chroot DIR CMD...      run a command as root in the system in DIR; tr_over=(FILE PLACE)
#                                puts a file of ours over one there, as long as it runs
#   tr_apart CMD...              run a command here, with a copy of the server's folders
#   tr_begin, tr_end             a run: makes and removes $work; the exit status
#   tr_test NAME CMD...          run a command; it is a test, which it passes with 0
#   tr_suite NAME AT PART...     run parts of test/run as a test; AT is `here`, `apart`
#                                or a chroot's folder
#
# A command in a chroot has mounts and processes of its own (namespaces): both
# end with it, however it ends and whatever it left running.  It sees this tree,
# to read, and the work folder, at the places where they are outside.

. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
tr_run=("$tr_top/test/run")
tr_failed=0
tr_over=()
work=

tr_kept()
{
	dir=$("$tr_top/test/servers/kept" "$1")
}

# Descriptor 9 is the lock of common.sh.
tr_in_chroot()
{
	local dir=$1
	shift
	unshare --mount --pid --fork --kill-child -- bash -euc '
		dir=$1 top=$2 work=$3 file=$4 place=$5
		shift 5
		mount -t proc proc "$dir/proc"
		mount -t tmpfs -o mode=1777 tmpfs "$dir/dev/shm"
		mount -t tmpfs -o mode=1777 tmpfs "$dir/tmp"
		mkdir -p "$dir$top"
		mount --bind -o ro "$top" "$dir$top"
		if [ -n "$work" ]; then
			mkdir -p "$dir$work"
			mount --bind "$work" "$dir$work"
		fi
		[ -z "$file" ] || mount --bind "$file" "$dir$place"
		cat /etc/resolv.conf > "$dir/etc/resolv.conf"
		exec chroot "$dir" env -u PG_CONFIG TMPDIR="${work:-/tmp}" \
			PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
	' chroot "$dir" "$tr_top" "$work" "${tr_over[0]:-}" "${tr_over[1]:-}" "$@" 9>&-
}

# What it installs is gone when it ends: nobody else gets a library that was
# built for a special purpose.
tr_apart()
{
	unshare --mount -- bash -euc '
		work=$1
		shift
		for dir in "$("$PG_CONFIG" --pkglibdir)" "$("$PG_CONFIG" --sharedir)/extension"; do
			mkdir -p "$work/apart"
			copy=$(mktemp -d "$work/apart/XXXXXX")
			chmod 755 "$work/apart" "$copy"
			cp -a "$dir/." "$copy"
			mount --bind "$copy" "$dir"
		done
		exec "$@"
	' apart "$work" "$@" 9>&-
}

# Other users write into it: the servers', inside and outside.
tr_begin()
{
	tr_as_root "$@"
	work=$(tr_workdir)
	chmod 1777 "$work"
	trap tr_end EXIT
	trap 'exit 1' INT TERM
}

tr_end()
{
	local status=$?
	trap - EXIT
	tr_stop_servers "$work"
	if [ $status = 0 ] && [ $tr_failed = 0 ]; then
		rm -rf --one-file-system "$work"
		exit 0
	fi
	echo "# kept for reading: $work"
	exit 1
}

# What the command prints becomes remarks, and stays in $work/NAME.log.
tr_test()
{
	local name=$1 log="$work/${1//[^A-Za-z0-9_.-]/_}.log"
	shift
	if "$@" 2>&1 < /dev/null | tee "$log" | sed -u 's/^/# /'; then
		echo "ok - $name"
	else
		echo "not ok - $name"
		tr_failed=1
	fi
}

# TMPDIR puts test/run's own work folder into ours.
tr_suite()
{
	local name=$1 at=$2 log="$work/${1//[^A-Za-z0-9_.-]/_}.log" begin=$SECONDS
	shift 2
	case $at in
		here) TMPDIR=$work tr_test "$name" "${tr_run[@]}" "$@" ;;
		apart) TMPDIR=$work tr_test "$name" tr_apart "${tr_run[@]}" "$@" ;;
		*) tr_test "$name" tr_in_chroot "$at" "${tr_run[@]}" "$@" ;;
	esac
	echo "# tried: $name: $(tail -n 1 "$log") in $((SECONDS - begin)) s ($*)"
}

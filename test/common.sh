# shellcheck shell=bash
# What test/run, test/demo and test/bench/run share; source it, don't run it.
#
# initdb refuses root, installing needs it, and a run must neither dirty the
# work tree nor meet another run.  So: everything is built and run by an
# unprivileged user in a private copy; only `make install` is done with
# privilege; and whoever installs holds a lock on the server's library folder
# until it ends, because that folder is what parallel runs would share.
#
#   tr_server              find the server (test/setup first): sets PG_CONFIG and bindir
#   tr_as_root ARGS...     start this program again as root, where it is not
#   tr_cache               where what is made once is kept: TR_CACHE
#   tr_workdir             make and print a folder for this run, which the user may write
#   tr_as_user CMD...      run a command as the unprivileged user
#   tr_copy DIR            copy the tree to DIR, without .git and build products
#   tr_lock, tr_unlock     wait until no other run uses the server's folders; let go
#   tr_install DIR         build the tree in DIR, take that lock and install
#   tr_copy_server DIR     copy the server's folders below DIR; sets PG_CONFIG and bindir
#   tr_stop_servers DIR    stop every server whose data lies under DIR
#   tr_small_disk DIR      mount a small file system there, for tests that fill it;
#                          false where that is not to be had
#   tr_no_small_disk DIR   unmount it, if it is there
#
# A program that needs nothing special begins with
#
#   . "$(dirname "$0")/common.sh"
#   tr_server; work=$(tr_workdir); tr_copy "$work/tree"; tr_install "$work/tree"

tr_top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export LC_ALL=C.UTF-8 LANG=C.UTF-8
unset MAKEFLAGS MFLAGS MAKELEVEL
tr_locked=
tr_cache=${TR_CACHE:-/var/cache/token_rotation}

# Say what is wrong and stop.
tr_die()
{
	echo "${0##*/}: $*" >&2
	exit 1
}

# Making a chroot, running in it, and writing to what is kept need root.
tr_as_root()
{
	[ "$(id -u)" != 0 ] || return 0
	command -v sudo > /dev/null || tr_die "be root, or have sudo"
	exec sudo --preserve-env "$0" "$@"
}

# Is this Debian package installed?
tr_has_package()
{
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# The major version to work with: PG_MAJOR, or the newest that is installed.
tr_major()
{
	local major
	for major in ${PG_MAJOR:-18 17 15}; do
		if [ -n "${PG_MAJOR:-}" ] || tr_has_package "postgresql-$major"; then
			echo "$major"
			return
		fi
	done
	echo 15
}

# PG_CONFIG from the environment wins, then Debian's packages.
tr_server()
{
	"$tr_top/test/setup" >&2 || return 1
	if [ -z "${PG_CONFIG:-}" ]; then
		PG_CONFIG=$(dpkg-query -L "postgresql-client-$(tr_major)" | grep '/bin/pg_config$')
	fi
	bindir=$("$PG_CONFIG" --bindir)
	export PG_CONFIG bindir
}

# Root becomes `postgres`, anybody else stays what he is.  Descriptor 9 is the
# lock; a server left running must not inherit it.
tr_as_user()
{
	if [ "$(id -u)" = 0 ]; then
		runuser -u "${TR_USER:-postgres}" -- env HOME="${TMPDIR:-/tmp}" "$@" 9>&-
	else
		"$@" 9>&-
	fi
}

tr_workdir()
{
	local dir
	dir=$(mktemp -d "${TMPDIR:-/tmp}/token_rotation.XXXXXX")
	chmod 755 "$dir"
	[ "$(id -u)" != 0 ] || chown "${TR_USER:-postgres}:" "$dir"
	echo "$dir"
}

tr_copy()
{
	mkdir -p "$1"
	# 1 from tar means that somebody is editing a file just now.
	{ tar -C "$tr_top" --exclude=.git --exclude='*.o' --exclude='*.so' --exclude='*.bc' \
		--exclude='./tmp_check*' -cf - . || [ $? = 1 ]; } | tar -C "$1" -xf -
	[ "$(id -u)" != 0 ] || chown -R "${TR_USER:-postgres}:" "$1"
	tr_as_user make -s -C "$1" clean > /dev/null
}

tr_lock()
{
	local libdir
	[ -z "$tr_locked" ] || return 0
	libdir=$("$PG_CONFIG" --pkglibdir)
	exec 9< "$libdir"
	if ! flock -n 9; then
		echo "${0##*/}: waiting for another run that uses $libdir" >&2
		flock 9
	fi
	tr_locked=1
}

tr_unlock()
{
	[ -z "$tr_locked" ] || exec 9>&-
	tr_locked=
}

tr_install()
{
	local libdir sudo=
	tr_as_user make -s -j2 -C "$1" || return 1
	tr_lock
	libdir=$("$PG_CONFIG" --pkglibdir)
	if [ ! -w "$libdir" ]; then
		sudo=$(command -v sudo) || { echo "cannot install into $libdir: be root, or have sudo" >&2; return 1; }
	fi
	$sudo make -s -C "$1" PG_CONFIG="$PG_CONFIG" install > /dev/null
}

# The copy finds everything from where its programs lie, as long as their places
# towards each other stay.  Nobody else meets what is installed into it.
tr_copy_server()
{
	local option dir
	for option in bindir pkglibdir sharedir pkgincludedir includedir-server; do
		dir=$("$PG_CONFIG" "--$option")
		[ -e "$1$dir" ] && continue
		tr_as_user mkdir -p "$1${dir%/*}"
		tr_as_user cp -r "$dir" "$1${dir%/*}"
	done
	PG_CONFIG=$1$("$PG_CONFIG" --bindir)/pg_config
	bindir=${PG_CONFIG%/*}
	export PG_CONFIG bindir
}

# A crashed server leaves its pid file, and its number may be another process's by now.
tr_stop_servers()
{
	local pidfile pid
	find "$1" -name postmaster.pid 2>/dev/null | while read -r pidfile; do
		pid=$(head -n 1 "$pidfile")
		if [ "/proc/$pid/cwd" -ef "${pidfile%/*}" ]; then
			kill -QUIT "$pid" || true
		fi
	done
}

# Only root can mount; the unprivileged user must be able to write there.
tr_small_disk()
{
	local sudo=
	[ "$(id -u)" = 0 ] || sudo=$(command -v sudo) || return 1
	mkdir -p "$1"
	$sudo mount -t tmpfs -o "size=64m,mode=1777" token_rotation "$1" 2>/dev/null
}

tr_no_small_disk()
{
	local sudo=
	mountpoint -q "$1" 2>/dev/null || return 0
	[ "$(id -u)" = 0 ] || sudo=$(command -v sudo) || return 1
	$sudo umount -l "$1"
}

# shellcheck shell=bash
# Programs that tests run, but that are not installed: a package would start a service,
# or is npm's.  A folder of them is made once, and kept; source this, don't run it.
#
#   tr_keep NAME COMMAND...   set `kept` to the folder of this name; where it is missing,
#                             COMMAND makes it, in a new folder as its working directory
#   tr_unpack PACKAGE...      for COMMAND: Debian packages to `unpacked`, which is then removed
#
#   TR_CACHE   where they are kept, default /var/cache/token_rotation

. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

tr_as_root

tr_keep()
{
	kept=$tr_cache/$1
	shift
	mkdir -p "$tr_cache"
	exec 8> "$kept.lock"
	flock 8    # one maker; who waited finds it made
	if [ ! -e "$kept" ]; then
		echo "making $kept, to be kept" >&2
		rm -rf "$kept.new"
		mkdir "$kept.new"
		cd "$kept.new"
		"$@" >&2
		cd "$tr_top"
		rm -rf "$kept.new/unpacked"
		chmod -R a+rX "$kept.new"
		mv "$kept.new" "$kept"
	fi
	exec 8>&-
}

# The name of this system, for a folder with programs of its packages.
tr_codename()
{
	(. /etc/os-release && echo "$VERSION_CODENAME")
}

tr_download()
{
	apt-get -q -o APT::Sandbox::User=root download "$@"
}

tr_unpack()
{
	local package
	command -v apt-get > /dev/null || tr_die "not a Debian system"
	mkdir unpacked
	cd unpacked
	tr_download "$@" || { flock /var/lib/dpkg apt-get -q update && tr_download "$@"; }
	for package in *.deb; do
		dpkg-deb --fsys-tarfile "$package" | tar -x
	done
	cd ..
}

#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Shows that the README's two commands work on a bare system: makes one with debootstrap,
# puts the project into it and runs them there as root. By hand, on a Debian machine, as
# root. The mounts and processes live in namespaces of their own and go with them.
set -euo pipefail

usage() {
	cat <<'TXT'
usage: tests/bare.sh [options] RELEASE [-- COMMAND…]

RELEASE is bookworm, trixie or noble. Without COMMAND both commands of the README run:
./quickstart.sh --once, then ./quickstart.sh check.

  --dir DIR    where the system is made (a new folder under /var/tmp)
  --keep       leaves it there, by default as /var/tmp/acctlink-bare-RELEASE; the next
               run with --keep takes it as it is, packages that it installed included
  --worktree   takes the working tree's files instead of the last commit
TXT
}

die() {
	printf 'tests/bare.sh: %s\n' "$1" >&2
	exit 2
}

release=
root=
keep=
worktree=
commands=()
while [ $# -gt 0 ]; do
	case $1 in
	--dir)
		[ $# -ge 2 ] || die "--dir needs a folder"
		root=$2
		shift
		;;
	--keep) keep=1 ;;
	--worktree) worktree=1 ;;
	-h | --help) usage && exit 0 ;;
	--)
		shift
		break
		;;
	-*) die "unknown option $1 (--help lists them)" ;;
	*) release=$1 ;;
	esac
	shift
done
case $release in
bookworm | trixie | noble) ;;
*) die "name a release: bookworm, trixie or noble" ;;
esac
if [ $# -gt 0 ]; then
	commands=("${*@Q}")
else
	commands=('./quickstart.sh --once' './quickstart.sh check')
fi

[ "$(id -u)" -eq 0 ] || die "needs root"
for tool in debootstrap git unshare; do
	command -v "$tool" >/dev/null || die "needs $tool: install the Debian package of that name (unshare: util-linux)"
done
here=$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)

if [ -z "$root" ] && [ -n "$keep" ]; then
	root=/var/tmp/acctlink-bare-$release
elif [ -z "$root" ]; then
	root=$(mktemp -d "/var/tmp/acctlink-bare-$release.XXXXXX")
	chmod 0755 "$root" # tests that work as another user must get through /
fi
mkdir -p "$root"
root=$(cd -P -- "$root" && pwd)
made=$root/.acctlink-bare
log=$root/.acctlink-bare.log
if [ -n "$(ls -A "$root")" ] && { [ -z "$keep" ] || [ "$(cat "$made" 2>/dev/null)" != "$release" ]; }; then
	die "$root is not empty and no whole $release that --keep left: remove it, or name another --dir"
fi

inner=
clean_up() {
	if [ -n "$inner" ]; then
		kill -KILL "$inner" 2>/dev/null || :
		wait "$inner" 2>/dev/null || :
	fi
	if [ -z "$keep" ]; then
		rm -rf --one-file-system "$root"
	fi
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# Runs a command in mount and process namespaces of its own; what it mounts or leaves
# running ends with it, or when this script ends.
in_namespace() {
	local status=0
	unshare --mount --propagation private --pid --fork --kill-child "$@" </dev/null &
	inner=$!
	wait "$inner" || status=$?
	inner=
	return "$status"
}

# The first address in the host's apt sources that ends in the given word.
host_mirror() {
	local file
	for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
		[ ! -f "$file" ] || sed -E 's/#.*//' "$file"
	done | grep -oE "https?://[^ ]*/$1/?( |\$)" | head -n 1 | tr -d ' '
}

make_system() {
	local mirror security suite=$release components=main script=() keyring=()
	if [ "$release" = noble ]; then
		mirror=$(host_mirror ubuntu) || mirror=http://archive.ubuntu.com/ubuntu
		security=$mirror
		components=main,universe
		keyring=(--keyring=/usr/share/keyrings/ubuntu-archive-keyring.gpg)
		[ -f "${keyring[0]#*=}" ] || die "needs the Debian package ubuntu-keyring"
		[ -f "/usr/share/debootstrap/scripts/$suite" ] || script=(gutsy) # all Ubuntu releases share it
	else
		mirror=$(host_mirror debian) || mirror=http://deb.debian.org/debian
		security=$(host_mirror debian-security) || security=http://deb.debian.org/debian-security
	fi
	printf 'Making a bare %s in %s …\n' "$release" "$root"
	if ! in_namespace debootstrap --variant=minbase --components="$components" \
		"${keyring[@]}" "$suite" "$root" "$mirror" "${script[@]}" >"$log" 2>&1; then
		tail -n 20 "$log"
		die "debootstrap failed; its own log may be $root/debootstrap/debootstrap.log"
	fi
	for suite in "$mirror $release" "$mirror $release-updates" "$security $release-security"; do
		printf 'deb %s %s\n' "$suite" "${components//,/ }"
	done >"$root/etc/apt/sources.list"
	printf '%s\n' "$release" >"$made"
}

# How this machine reaches the outside: names, apt's ways, certificate authorities.
lend_network() {
	apt-config dump | grep -E '^Acquire::(https?(::| )|Check-|Retries|ForceIPv)' \
		>"$root/etc/apt/apt.conf.d/90host" || :
	cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
	mkdir -p "$root/etc/ssl"
	[ ! -f /etc/ssl/certs/ca-certificates.crt ] ||
		cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/host-ca.crt"
}

copy_project() {
	local to=$root/root/acctlink
	rm -rf --one-file-system "$to"
	mkdir -p "$to"
	cd "$here"
	if [ -n "$worktree" ]; then
		git ls-files -z --cached --others --exclude-standard |
			tar --create --null --files-from=- --ignore-failed-read | tar --extract --directory="$to"
	else
		[ -z "$(git status --porcelain)" ] || printf 'Uncommitted changes are left out (--worktree takes them).\n'
		git archive HEAD | tar --extract --directory="$to"
	fi
	chown -R 0:0 "$to"
}

# Prints the environment inside, one NAME=value a line: bare, but for the ways outside.
environment() {
	local name value
	printf '%s\n' PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root "TERM=${TERM:-dumb}"
	for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
		[ -z "${!name-}" ] || printf '%s=%s\n' "$name" "${!name}"
	done
	[ ! -f "$root/etc/ssl/host-ca.crt" ] || echo NODE_EXTRA_CA_CERTS=/etc/ssl/host-ca.crt
	command -v npm >/dev/null || return 0
	for name in registry proxy https-proxy; do
		value=$(npm config get "$name" 2>/dev/null) || continue
		case $value in
		'' | null | undefined) ;;
		*) printf 'npm_config_%s=%s\n' "${name//-/_}" "$value" ;;
		esac
	done
}

# The first process of the namespace: mounts, runs one command, and tells what it left
# running. Its arguments: root, command, environment.
# shellcheck disable=SC2016 # expanded in there
inside='
	root=$1 command=$2
	shift 2
	mount -t proc proc "$root/proc" && mount -t sysfs -o ro sysfs "$root/sys" &&
		mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts" &&
		mount -t tmpfs tmpfs "$root/dev/shm" || exit 2
	status=0
	chroot "$root" env -i "$@" bash -c "cd /root/acctlink && $command" || status=$?
	for dir in "$root"/proc/[0-9]*; do
		words=$(tr "\0" " " 2>/dev/null <"$dir/cmdline")
		[ "${dir##*/}" = 1 ] || [ -z "$words" ] || { echo "left running: $words"; : $((status += status == 0)); }
	done
	exit "$status"
'

if [ -f "$made" ]; then
	printf 'Taking %s in %s as it was left, so not bare.\n' "$release" "$root"
else
	make_system
fi
lend_network
copy_project
mapfile -t variables < <(environment)

results=()
failed=0
for command in "${commands[@]}"; do
	start=$SECONDS
	status=0
	printf '\n%s# %s\n' "$release" "$command"
	in_namespace bash -c "$inside" inside "$root" "$command" "${variables[@]}" || status=$?
	results+=("$(printf '%s: %s: exit status %d after %d s' "$release" "$command" "$status" $((SECONDS - start)))")
	[ "$status" -eq 0 ] || failed=1
done
printf '\n'
printf '%s\n' "${results[@]}"
[ -z "$keep" ] || printf 'Left in %s; remove it with: rm -rf --one-file-system %q\n' "$root" "$root"
[ "$failed" -eq 0 ]

#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Walks the path of doc/newcomer.md: takes its blocks, in order, and runs them with
# bash -e in a fresh folder, in one shell, as a reader would. What differs from a reader's
# machine: the install goes to a folder of the test's own (PATH and PKG_CONFIG_PATH lead
# there), and a port that is taken is replaced by a free one. The slow block, the quick
# start itself, runs with TH_FULL=1 only, in a copy of the source; else build/ is the tree
# that is there. Prints how long each step took.
set -uo pipefail

# shellcheck source=tests/lib/tap.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../lib/tap.sh"
export LC_ALL=C

srcdir=${TH_SRCDIR:-$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)}
document=$srcdir/doc/newcomer.md
scratch=$(mktemp -d "${TMPDIR:-/tmp}/acctlink-newcomer.XXXXXX") || exit 1
home=$scratch/source
group=
unset ACCTLINK_CONFIG MAKEFLAGS MAKELEVEL MFLAGS CREDENTIALS_DIRECTORY
exec </dev/null

# All that the steps have started is in one process group.
finish() {
	[ -z "$group" ] || kill -- "-$group" 2>/dev/null
	rm -rf "$scratch"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

skip_all() {
	printf '1..0 # SKIP %s\n' "$1"
	exit 0
}

in_full() {
	[ -n "${TH_FULL:-}" ] && [ "${TH_FULL:-}" != 0 ]
}

command -v curl >/dev/null || skip_all 'curl is missing'
if ! in_full; then # else the quick start installs and builds what is needed
	builddir=$(cd -P -- "${TH_BUILDDIR:-$srcdir/build}" && pwd) || exit 1
	for program in pkg-config make cc; do
		command -v "$program" >/dev/null || skip_all "$program is missing"
	done
	! grep -q '^AL_SANITIZE = .*-fsanitize' "$builddir/Makefile" ||
		skip_all "a host without a sanitizer can't load a plugin with one"
	[ -x "$builddir/tools/practice/practice" ] || skip_all 'the practice bank was not built: libmicrohttpd-dev is missing'
fi

# ---- from the document to a script ------------------------------------------------------------

# Each block that is meant for the path becomes a file NUMBER.KIND, its words NUMBER.words,
# the heading that it stands under NUMBER.title.
extract() {
	mkdir "$scratch/blocks"
	awk -v dir="$scratch/blocks" '
		/^## / && !open { title = substr($0, 4) }
		/^```/ {
			if (open) { open = 0; file = ""; next }
			open = 1
			count = split(substr($0, 4), word, " ")
			if (count < 2 || word[2] != "newcomer")
				next
			file = sprintf("%s/%02d.%s", dir, ++number, word[1])
			printf "" > file
			print title > sprintf("%s/%02d.title", dir, number)
			print $0 > sprintf("%s/%02d.words", dir, number)
			next
		}
		file != "" { print > file }' "$document"
}

has_word() { # number, word
	grep -qE "[[:space:]]$2([[:space:]]|$)" "$scratch/blocks/$1.words"
}

put_block() { # file
	local file=$1 number target
	number=${file##*/}
	number=${number%.*}
	# shellcheck disable=SC2016 # for the script that is written
	printf '\necho "@ %s $EPOCHREALTIME" >&3\n' "$number"
	case $file in
	*.c)
		target=$(grep -oE 'file=[^ ]+' "$scratch/blocks/$number.words" | cut -d= -f2)
		printf "cat > %s <<'THE_END_OF_THE_BLOCK'\n" "$target"
		cat "$file"
		printf 'THE_END_OF_THE_BLOCK\n'
		;;
	*.sh)
		if has_word "$number" install; then
			printf 'make -s -C build install prefix=%q exec_prefix=%q/ >/dev/null\n' "$scratch/usr" "$scratch/usr"
			printf 'sed -i %q %q/lib/pkgconfig/acctlink.pc\n' "s#^prefix=.*#prefix=$scratch/usr#" "$scratch/usr"
		elif ! has_word "$number" slow || in_full; then
			cat "$file"
		fi
		;;
	esac
}

is_taken() { # port
	(exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# The ports are the document's own; another test, or a program, may have them.
replace_taken_ports() {
	local port other
	while IFS= read -r port; do
		is_taken "$port" || continue
		other=$((port + 100))
		while is_taken "$other"; do
			other=$((other + 1))
		done
		printf '# port %s is taken; %s stands in its place\n' "$port" "$other"
		sed -i "s/\b$port\b/$other/g" "$scratch/path.sh"
	done < <(grep -oE ':[0-9]{4}\b|--port [0-9]{4}' "$scratch/path.sh" | grep -oE '[0-9]{4}' | sort -u)
}

write_script() {
	local file
	for file in "$scratch"/blocks/*.sh "$scratch"/blocks/*.c; do
		printf '%s\n' "$file"
	done | sort -t/ -k1 | while IFS= read -r file; do
		put_block "$file"
	done >"$scratch/path.sh"
	# shellcheck disable=SC2016 # for the script that is written
	printf '\necho "@ end $EPOCHREALTIME" >&3\n' >>"$scratch/path.sh"
	replace_taken_ports
}

make_home() {
	mkdir -p "$home"
	if in_full; then
		tar -C "$srcdir" --exclude=./build --exclude=./build-check --exclude=./.git --exclude=node_modules -cf - . |
			tar -C "$home" -xf -
	else
		ln -s "$builddir" "$home/build"
	fi
}

# ---- the walk -----------------------------------------------------------------------------------

walk() {
	local limit=120
	! in_full || limit=3600
	# A group of its own, so that whatever is left of it can be ended.
	(cd "$home" && PATH=$scratch/usr/bin:$PATH PKG_CONFIG_PATH=$scratch/usr/lib/pkgconfig \
		exec setsid timeout --foreground "$limit" bash -e "$scratch/path.sh" >"$scratch/out" 2>"$scratch/err" 3>"$scratch/steps") &
	group=$!
	wait "$group"
}

# Number of a block, seconds.
times() {
	awk '$1 == "@" { if (last != "") printf "%s %.1f\n", last, $3 - since; last = $2; since = $3 }' "$scratch/steps"
}

the_document_has_a_path() {
	[ "$(find "$scratch/blocks" -name '*.sh' | wc -l)" -ge 8 ] || { echo 'its blocks were not found'; return 1; }
}

the_host_has_at_most_thirty_lines() {
	local lines
	lines=$(cat "$scratch"/blocks/*.c | wc -l)
	if [ "$lines" -le 10 ] || [ "$lines" -gt 30 ]; then
		echo "it has $lines"
		return 1
	fi
}

every_step_ends_well() {
	local number
	[ "$status" -ne 0 ] || return 0
	number=$(grep '^@' "$scratch/steps" | tail -n 1 | cut -d' ' -f2)
	echo "step $number ($(cat "$scratch/blocks/$number.title" 2>/dev/null)) ended with $status:"
	tail -n 20 "$scratch/out" "$scratch/err"
	return 1
}

said() { # what, pattern
	grep -qE -- "$2" "$scratch/out" || { echo "nothing said $1"; tail -n 20 "$scratch/out"; return 1; }
}

the_account_is_linked_used_refreshed_and_unlinked() {
	said 'that it is linked' '^linked$' && said 'the state' '^state +linked$' &&
		said 'the accounts' '"accountId"' && said 'generation 2' '^generation +2$' &&
		said 'that the revocation is confirmed' '^revocation +confirmed$'
}

# The document says "Done in N s" once in each section; it must not promise too much.
no_step_takes_much_longer_than_the_document_says() {
	local title promised taken number seconds bad=0
	while IFS=$'\t' read -r title promised; do
		[[ $title != 1.* ]] || in_full || continue
		taken=$(times | while read -r number seconds; do
			[ "$(cat "$scratch/blocks/$number.title")" != "$title" ] || echo "$seconds"
		done | awk '{ sum += $1 } END { printf "%d", sum + 0.5 }')
		# Machines differ, and tests share theirs with others.
		[ "$taken" -le $((promised * 10 + 10)) ] || { echo "$title took $taken s, the document says $promised s"; bad=1; }
	done < <(awk '/^## / { title = substr($0, 4) }
		match($0, /Done in [0-9]+ (s|min)/) {
			split(substr($0, RSTART, RLENGTH), word, " ")
			print title "\t" word[3] * (word[4] == "min" ? 60 : 1)
		}' "$document")
	return $bad
}

every_section_with_a_step_says_how_long_it_takes() {
	local title bad=0
	while IFS= read -r title; do
		awk -v title="$title" '/^## / { inside = substr($0, 4) == title } inside' "$document" | grep -q 'Done in [0-9]' ||
			{ echo "$title does not"; bad=1; }
	done < <(cat "$scratch"/blocks/*.title | sort -u)
	return $bad
}

no_secret_was_shown() {
	! grep -lE 'test-secret|eyJ[A-Za-z0-9_-]{10}' "$scratch/out" "$scratch/err"
}

# Processes of the group that are more than the entry of a dead one that nobody has asked for.
left() {
	cat /proc/[0-9]*/stat 2>/dev/null | sed 's/^\([0-9]*\).*) /\1 /' |
		awk -v group="$group" '$4 == group && $2 != "Z" && $2 != "X" { print $1 }'
}

nothing_is_left_running() {
	local tries
	for tries in {1..100}; do # the bank ends by itself, not at once
		[ -n "$(left)" ] || return 0
		sleep 0.1
	done
	echo "after $tries looks a process of the path still goes on: $(left | tr '\n' ' ')"
	return 1
}

extract
write_script
make_home
walk
status=$?

tests='the_document_has_a_path
the_host_has_at_most_thirty_lines
every_step_ends_well
the_account_is_linked_used_refreshed_and_unlinked
every_section_with_a_step_says_how_long_it_takes
no_step_takes_much_longer_than_the_document_says
no_secret_was_shown
nothing_is_left_running'

times | while read -r number seconds; do
	! has_word "$number" slow || in_full || continue
	printf '# %5.1f s  %s\n' "$seconds" "$(cat "$scratch/blocks/$number.title")"
done
run_tests "$tests"

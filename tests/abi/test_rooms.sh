#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Holds the sources of the plugin against the table of rooms: who may call whom, where a
# foreign library may be seen, and which calls nobody may make. Then the check is checked:
# each rule is broken once in a copy and must be noticed. Prints TAP.
set -u

# shellcheck source=tests/lib/tap.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../lib/tap.sh"

srcdir=${TH_SRCDIR:-$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)}
rooms='base config net store vault provider link flow abi'

# Sets `callable` to the rooms whose public headers a room may include, besides its own.
may_call() {
	case $1 in
	base) callable= ;;
	config | net | store) callable=' base ' ;;
	vault) callable=' base store ' ;;
	provider) callable=' base config net ' ;;
	link) callable=' base provider vault ' ;;
	flow) callable=' base link provider vault ' ;;
	abi) callable=' base flow link config ' ;;
	*) return 1 ;;
	esac
}

# assembly.c builds all rooms, for the handle that abi_int.h describes.
sees_all() {
	case $1 in
	abi/assembly.c | abi/abi_int.h) ;;
	*) return 1 ;;
	esac
}

# Whether a file may see a header that no room owns. New headers are entered here.
may_see() { # file, header
	case $2 in
	acctlink.h) ;;
	curl/*) [ "${1%%/*}" = net ] ;;
	json-c/*) [ "${1%%/*}" = provider ] ;;
	libconfig.h) [ "${1%%/*}" = config ] ;;
	sqlite3.h) case $1 in store/sqlite*.[ch]) ;; *) false ;; esac ;;
	openssl/ssl.h) [ "$1" = net/http.c ] ;; # libcurl's OpenSSL must wipe what it read
	openssl/*) case $1 in base/codec.c | provider/* | vault/*) ;; *) false ;; esac ;;
	syslog.h) [ "$1" = base/log.c ] ;;
	sys/mman.h) case ${1%%/*} in abi | base) ;; *) false ;; esac ;;
	arpa/inet.h | netinet/in.h) case ${1%%/*} in net | config) ;; *) false ;; esac ;;
	poll.h | sys/socket.h | netdb.h) [ "${1%%/*}" = net ] ;;
	dlfcn.h) case $1 in abi/libraries.c | net/http.c) ;; *) false ;; esac ;;
	link.h) [ "$1" = abi/libraries.c ] ;;
	dirent.h | fcntl.h | sys/stat.h) case ${1%%/*} in store | config | vault) ;; *) false ;; esac ;;
	sys/random.h) [ "$1" = base/random.c ] ;;
	ctype.h | errno.h | inttypes.h | limits.h | locale.h | pthread.h | signal.h | stdarg.h | stdatomic.h | stdbool.h | \
		stddef.h | stdint.h | stdio.h | stdlib.h | string.h | strings.h | time.h | unistd.h) ;;
	*) false ;;
	esac
}

# Prints what is wrong with one #include; false then.
judge() { # root, file, header
	local room=${2%%/*} other=${3%%/*}
	if [ "$other" = "$3" ] || ! may_call "$other"; then
		may_see "$2" "$3" || { echo "$2: $3 is not for this file, or not in the table"; return 1; }
		return
	fi
	[ -f "$1/plugin/$3" ] || { echo "$2: $3 is not there"; return 1; }
	if sees_all "$2" || [ "$other" = "$room" ]; then
		return
	fi
	may_call "$room"
	case $callable in
	*" $other "*) ;;
	*) echo "$2: room $room may not call room $other ($3)"; return 1 ;;
	esac
	case $3 in
	*_int.h) echo "$2: $3 is for room $other only"; return 1 ;;
	esac
}

check_includes() { # root
	local file header room found=0 bad=0
	for room in $rooms; do
		ls "$1/plugin/$room"/*.c >/dev/null 2>&1 || { echo "room $room has no source"; return 1; }
	done
	for room in "$1"/plugin/*/; do
		may_call "$(basename "$room")" || { echo "room $(basename "$room") is not in the table"; bad=1; }
	done
	while IFS=: read -r file header; do
		found=$((found + 1))
		judge "$1" "$file" "$header" || bad=1
	done < <(cd "$1/plugin" && grep -E '^[[:space:]]*#[[:space:]]*include' ./*/*.[ch] |
		sed -E 's|^\./([^:]*):[[:space:]]*#[[:space:]]*include[[:space:]]*["<]([^">]*)[">].*|\1:\2|')
	[ "$found" -ge 100 ] || { echo "only $found includes were found"; return 1; }
	return $bad
}

banned='strcpy stpcpy strcat sprintf vsprintf gets strtok atoi atol atoll alloca system popen setlocale signal sigaction
	sigprocmask umask chdir fchdir setenv putenv unsetenv clearenv exit abort atexit on_exit pthread_key_create
	pthread_exit rand srand'

# Prints "file:line: call" for each call of a banned name; comments and strings don't count.
check_calls() { # root
	local files
	files=$(ls "$1"/plugin/*/*.[ch] 2>/dev/null) || { echo 'no sources'; return 1; }
	# shellcheck disable=SC2086 # one file a word
	LC_ALL=C awk -v banned="$banned" '
		BEGIN {
			count = split(banned, list)
			for (i = 1; i <= count; i++)
				is_banned[list[i]] = 1
		}
		FNR == 1 { comment = 0 }
		{
			code = ""
			quote = ""
			for (i = 1; i <= length($0); i++) {
				c = substr($0, i, 1)
				pair = substr($0, i, 2)
				if (comment) {
					if (pair == "*/") { comment = 0; i++ }
				} else if (quote != "") {
					if (c == "\\") i++
					else if (c == quote) quote = ""
				} else if (pair == "/*") {
					comment = 1; i++
				} else if (pair == "//") {
					break
				} else if (c == "\"" || c == "\047") {
					quote = c
				} else {
					code = code c
				}
			}
			lines++
			if (code ~ /__attribute__.*(constructor|destructor)/) {
				print FILENAME ":" FNR ": constructor or destructor"
				bad = 1
			}
			while (match(code, /[A-Za-z_][A-Za-z0-9_]*[ \t]*\(/)) {
				name = substr(code, RSTART, RLENGTH)
				sub(/[ \t]*\($/, "", name)
				if (name in is_banned) {
					file = FILENAME
					sub(/.*\/plugin\//, "", file)
					print file ":" FNR ": " name
					bad = 1
				}
				code = substr(code, RSTART + RLENGTH)
			}
		}
		END {
			if (lines < 1000) {
				print "only " lines + 0 " lines were read"
				bad = 1
			}
			exit bad
		}' $files
}

# ---- the tests -----------------------------------------------------------------------------------

includes_obey_the_table_of_rooms() {
	check_includes "$srcdir"
}

no_banned_call_is_made() {
	check_calls "$srcdir"
}

scratch=$(mktemp -d "${TMPDIR:-/tmp}/rooms.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

fresh_copy() {
	rm -rf "$scratch/root"
	mkdir -p "$scratch/root"
	cp -r "$srcdir/plugin" "$scratch/root/plugin"
	chmod -R u+w "$scratch/root"
}

# The line, put into a file of a copy, must be noticed by the check, with the file's name.
notices() { # check, file, line
	local output
	fresh_copy
	printf '%s\n' "$3" >>"$scratch/root/plugin/$2"
	if output=$("$1" "$scratch/root" 2>&1); then
		echo "$1 does not notice '$3' in $2"
		return 1
	fi
	case $output in
	*"$2"*) ;;
	*) echo "$1 does not name $2: $output"; return 1 ;;
	esac
}

overlooks() { # check, file, line
	local output
	fresh_copy
	printf '%s\n' "$3" >>"$scratch/root/plugin/$2"
	output=$("$1" "$scratch/root" 2>&1) || { echo "$1 complains of '$3': $output"; return 1; }
}

an_include_against_the_table_is_noticed() {
	notices check_includes base/base.h '#include "net/net.h"' &&
		notices check_includes config/config.c '#include "store/store.h"' &&
		notices check_includes net/url.c '#include "config/config.h"' &&
		notices check_includes store/store.c '# include "vault/vault.h"' &&
		notices check_includes vault/seal.c '#include "provider/provider.h"' &&
		notices check_includes provider/json.c '#include "link/link.h"' &&
		notices check_includes provider/provider.h '#include "vault/vault.h"' &&
		notices check_includes link/gate.c '#include "net/net.h"' &&
		notices check_includes flow/begin.c '#include "net/net.h"' &&
		notices check_includes abi/calls.c '#include "store/store.h"' &&
		notices check_includes abi/args.c '#include "provider/provider.h"'
}

an_inner_header_of_another_room_is_noticed() {
	notices check_includes flow/flow.c '#include "link/link_int.h"' &&
		notices check_includes abi/calls.c '#include "flow/flow_int.h"' &&
		notices check_includes vault/vault.c '#include "store/store_int.h"'
}

a_foreign_header_out_of_place_is_noticed() {
	notices check_includes link/link.c '#include <curl/curl.h>' &&
		notices check_includes flow/flow.c '#include <json-c/json.h>' &&
		notices check_includes provider/provider.c '#include <libconfig.h>' &&
		notices check_includes store/store.c '#include <sqlite3.h>' &&
		notices check_includes vault/vault.c '#include <sqlite3.h>' &&
		notices check_includes link/set.c '#include <openssl/evp.h>' &&
		notices check_includes base/secret.c '#include <openssl/crypto.h>' &&
		notices check_includes base/log.c '#include <jansson.h>' &&
		notices check_includes link/link.c '#include <fcntl.h>'
}

a_header_that_is_not_there_is_noticed() {
	notices check_includes link/link.c '#include "base/no_such.h"'
}

includes_that_the_table_allows_are_left_alone() {
	overlooks check_includes abi/assembly.c '#include "store/store.h"' &&
		overlooks check_includes link/link.c '#include "provider/provider.h"' &&
		overlooks check_includes flow/begin.c '#include "vault/vault.h"'
}

a_room_that_nobody_knows_or_that_is_gone_is_noticed() {
	fresh_copy
	mkdir "$scratch/root/plugin/attic"
	! check_includes "$scratch/root" >/dev/null || { echo 'an unknown room passes'; return 1; }
	fresh_copy
	rm -r "$scratch/root/plugin/vault"
	! check_includes "$scratch/root" >/dev/null || { echo 'a missing room passes'; return 1; }
}

banned_calls_are_noticed_wherever_they_stand() {
	local name output
	fresh_copy
	for name in $banned; do
		printf 'static void f_%s(void) { %s(0); }\n' "$name" "$name" >>"$scratch/root/plugin/link/link.c"
	done
	output=$(check_calls "$scratch/root")
	for name in $banned; do
		printf '%s\n' "$output" | grep -q "^link/link.c:[0-9]*: $name\$" || { echo "$name is not noticed"; return 1; }
	done
	notices check_calls base/base.h 'int x = (1 /* a */ + strcpy (a, "b"));' &&
		notices check_calls vault/keys.c 'char *p = "//"; system(p);' &&
		notices check_calls vault/keys.c "char c = '\"'; exit(c);" &&
		notices check_calls vault/keys.c '__attribute__((constructor)) static void f(void);'
}

names_in_comments_strings_and_longer_names_are_left_alone() {
	overlooks check_calls link/link.c '/* system("x")
 * abort() */ // exit(1)
const char *s = "abort() and \" strcpy(";
int f(void) { return my_exit(1) + pthread_cond_signal(0) + exit_code; }'
}

both_checks_fail_without_sources() {
	mkdir -p "$scratch/nothing"
	! check_includes "$scratch/nothing" >/dev/null 2>&1 || { echo 'includes of nothing pass'; return 1; }
	! check_calls "$scratch/nothing" >/dev/null 2>&1 || { echo 'calls of nothing pass'; return 1; }
	mkdir -p "$scratch/nothing/plugin/base"
	: >"$scratch/nothing/plugin/base/base.c"
	! check_includes "$scratch/nothing" >/dev/null 2>&1 || { echo 'includes of next to nothing pass'; return 1; }
	! check_calls "$scratch/nothing" >/dev/null 2>&1 || { echo 'calls of next to nothing pass'; return 1; }
}

tests='includes_obey_the_table_of_rooms
no_banned_call_is_made
an_include_against_the_table_is_noticed
an_inner_header_of_another_room_is_noticed
a_foreign_header_out_of_place_is_noticed
a_header_that_is_not_there_is_noticed
includes_that_the_table_allows_are_left_alone
a_room_that_nobody_knows_or_that_is_gone_is_noticed
banned_calls_are_noticed_wherever_they_stand
names_in_comments_strings_and_longer_names_are_left_alone
both_checks_fail_without_sources'

run_tests "$tests"

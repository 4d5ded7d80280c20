#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Hosts that have json-c, jansson, curl, OpenSSL and SQLite of their own: shared, built in,
# seen by everybody or hidden, loaded before and after the plugin. Each does its own work,
# links an account and refreshes it through the plugin. Where the host's names would take
# the plugin's calls, the plugin must refuse to start and say whose name it is. Prints TAP,
# one test for each kind of host.
set -u

# shellcheck source=tests/lib/tap.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../lib/tap.sh"

srcdir=${TH_SRCDIR:-$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)}
builddir=${TH_BUILDDIR:-.}
export ACCTLINK_PLUGIN=${ACCTLINK_PLUGIN:-$builddir/.libs/acctlink.so}
export TH_SRCDIR=$srcdir TH_BUILDDIR=$builddir
here=$srcdir/tests/citizen
harness=$builddir/tests/lib/libharness.a

for input in "$ACCTLINK_PLUGIN" "$harness" "$here/neighbour_host.c" "$here/neighbour_names.c" \
	"$here/neighbour_malloc.c" "$here/neighbour_driver.c"; do
	if [ ! -s "$input" ]; then
		printf '1..1\nnot ok 1 - the_input_is_there\n# %s is missing or empty\n' "$input"
		exit 1
	fi
done

scratch=$(mktemp -d "${TMPDIR:-/tmp}/neighbours.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

# The compiler that the tree was configured with, and its sanitizer.
make_variable() {
	sed -n "s/^$1 = //p" "$builddir/Makefile" 2>/dev/null | head -n 1
}
cc=$(make_variable CC)
[ -n "$cc" ] || cc=cc
sanitize=$(make_variable AL_SANITIZE)
pkg_config=$(make_variable PKG_CONFIG)
[ -n "$pkg_config" ] || pkg_config=pkg-config

compile() { # arguments of the compiler
	# shellcheck disable=SC2086 # words
	$cc -std=c11 -D_GNU_SOURCE -DOPENSSL_NO_DEPRECATED -Wall -Wextra -Werror -fvisibility=hidden -O1 -g $sanitize \
		-I"$srcdir/include" -I"$srcdir/tests/lib" "$@"
}

flags() { # pkg-config arguments
	"$pkg_config" "$@" 2>/dev/null
}

# The archive instead of the shared library, and what it needs in turn.
built_in() { # module, library
	flags --static --libs "$1" | sed -E "s/(^| )-l$2( |$)/\1-l:lib$2.a\2/"
}

# ---- the kinds of hosts --------------------------------------------------------------------

# Each sets `defines` and `libraries` as needed; false: it can't be built here, see `why`.
why=
has() { # shared | built_in, module, library, macro, Debian package
	"$pkg_config" --exists "$2" 2>/dev/null || { why="$3 is not installed (Debian package $5)"; return 1; }
	defines="$defines -D$4 $(flags --cflags "$2")"
	if [ "$1" = shared ]; then
		libraries="$libraries $(flags --libs "$2")"
		return
	fi
	[ -f "$(flags --variable=libdir "$2")/lib$3.a" ] || { why="lib$3.a is not installed (Debian package $5)"; return 1; }
	libraries="$libraries $(built_in "$2" "$3")"
}
has_jsonc() { has "$1" json-c json-c WITH_JSONC libjson-c-dev; }
has_jansson() { has "$1" jansson jansson WITH_JANSSON libjansson-dev; }
has_curl() { has "$1" libcurl curl WITH_CURL libcurl4-openssl-dev; }
has_openssl() { has "$1" libcrypto crypto WITH_OPENSSL libssl-dev; }
has_sqlite() { has "$1" sqlite3 sqlite3 WITH_SQLITE libsqlite3-dev; }

# A library of a stranger that brings jansson along, and one of unlucky names.
make_stranger() {
	# shellcheck disable=SC2046
	printf '#include <jansson.h>\njson_t *stranger(void);\njson_t *stranger(void) { return json_object(); }\n' |
		compile -x c - -fPIC -shared -fvisibility=default -o "$scratch/stranger.so" $(flags --cflags --libs jansson)
}
make_names() { # macros …
	compile "${@/#/-DNAMES_}" -fPIC -shared -o "$scratch/names.so" "$here/neighbour_names.c"
}

exported='-rdynamic'
hidden='-rdynamic -Wl,--exclude-libs,ALL'

host() { # link flags, source files …
	local link=$1
	shift
	# shellcheck disable=SC2086
	compile $defines -o "$scratch/host" "$here/neighbour_host.c" "$@" $link $libraries
}

named_host() { # macros …
	# shellcheck disable=SC2086
	compile "${@/#/-DNAMES_}" -c -o "$scratch/names.o" "$here/neighbour_names.c" && host $exported "$scratch/names.o"
}

run() { # arguments of the host; prints what it said, returns its value
	timeout 100 "$scratch/driver" "$scratch/host" "$@" 2>&1
}

works() {
	local output value
	output=$(run "$@")
	value=$?
	[ "$value" -eq 0 ] && return 0
	printf 'the host ended with %d\n%s\n' "$value" "$output"
	return 1
}

# By init, with the status INTERNAL, naming the library and the host's file.
is_refused() { # library, file, arguments …
	local output value library=$1 file=$2
	shift 2
	output=$(run "$@")
	value=$?
	printf '%s\n' "$output"
	[ "$value" -eq 3 ] || { echo "the host ended with $value"; return 1; }
	printf '%s' "$output" | grep -q "^init: 500 $library: .* is found in .*$file" || { echo "$library or $file is not named"; return 1; }
}

# Sanitizers refuse RTLD_DEEPBIND and have an allocator of their own.
without_sanitizer() {
	[ -z "$sanitize" ] || { why='not with a sanitizer'; return 1; }
}

# json-c that is built into the plugin is out of the host's reach.
jsonc_is_built_in() {
	! readelf -dW "$ACCTLINK_PLUGIN" | grep -q 'NEEDED.*libjson-c'
}

# ---- the tests --------------------------------------------------------------------------------

# Where a test can't be made: return 77, why is the reason.

a_host_with_nothing_of_its_own() {
	host '' && works
}
shared_jsonc() {
	has_jsonc shared && host '' && works
}
shared_jsonc_bound_at_once() {
	has_jsonc shared && host '' && LD_BIND_NOW=1 works
}
shared_jsonc_and_the_plugin_global() {
	has_jsonc shared && host '' && works global
}
shared_jsonc_and_the_plugin_bound_deep() {
	without_sanitizer || return 77
	has_jsonc shared && host '' && works deepbind
}
built_in_jsonc() {
	has_jsonc built_in && host '' && works
}
built_in_jsonc_exported() {
	has_jsonc built_in && host "$exported" && works
}
built_in_jsonc_exported_bound_at_once() {
	has_jsonc built_in && host "$exported" && LD_BIND_NOW=1 works
}
built_in_jsonc_hidden() {
	has_jsonc built_in && host "$hidden" && works
}
shared_jansson() {
	has_jansson shared || return 77
	host '' && works
}
shared_jansson_bound_at_once() {
	has_jansson shared || return 77
	host '' && LD_BIND_NOW=1 works
}
shared_jansson_and_the_plugin_global() {
	has_jansson shared || return 77
	host '' && works global
}
built_in_jansson() {
	has_jansson built_in || return 77
	host '' && works
}
built_in_jansson_exported() {
	has_jansson built_in || return 77
	host "$exported" && works
}
built_in_jansson_exported_as_a_whole_bound_at_once() {
	has_jansson built_in || return 77
	host "$exported -Wl,--whole-archive -l:libjansson.a -Wl,--no-whole-archive" && LD_BIND_NOW=1 works
}
built_in_jansson_exported_and_the_plugin_bound_deep() {
	without_sanitizer && has_jansson built_in || return 77
	host "$exported" && works deepbind
}
a_stranger_with_jansson_before_the_plugin() {
	has_jansson shared || return 77
	defines=
	libraries=
	make_stranger && has_jsonc shared && host '' && works "before=$scratch/stranger.so"
}
a_stranger_with_jansson_after_the_plugin() {
	has_jansson shared || return 77
	defines=
	libraries=
	make_stranger && has_jsonc shared && host '' && works "after=$scratch/stranger.so"
}
shared_curl_openssl_and_sqlite() {
	has_curl shared && has_openssl shared && has_sqlite shared && host '' && works
}
shared_curl_openssl_and_sqlite_bound_at_once() {
	has_curl shared && has_openssl shared && has_sqlite shared && host '' && LD_BIND_NOW=1 works
}
shared_curl_openssl_and_sqlite_and_the_plugin_global() {
	has_curl shared && has_openssl shared && has_sqlite shared && host '' && works global
}
all_libraries_in_a_host_at_a_fixed_address() {
	has_curl shared && has_openssl shared && has_sqlite shared && has_jsonc shared && host '-fno-pie -no-pie' && works
}
built_in_openssl_not_exported() {
	has_openssl built_in && host '' && works
}
built_in_openssl_hidden() {
	has_openssl built_in && host "$hidden" && works
}
# Parts of two copies would work on the same objects.
built_in_openssl_exported_in_part_is_refused() {
	has_openssl built_in && host "$exported" && is_refused libcrypto "$scratch/host"
}
built_in_openssl_exported_in_part_and_the_plugin_bound_deep() {
	without_sanitizer || return 77
	has_openssl built_in && host "$exported" && works deepbind
}
built_in_openssl_exported_as_a_whole_is_used() {
	has_openssl built_in &&
		host "$exported -Wl,--whole-archive -l:libssl.a -l:libcrypto.a -Wl,--no-whole-archive" && works
}
built_in_sqlite() {
	has_sqlite built_in && host '' && works
}
built_in_sqlite_exported_is_used() {
	has_sqlite built_in && host "$exported" && works
}
curl_with_gnutls_before_the_plugin() {
	ldconfig -p 2>/dev/null | grep -qF libcurl-gnutls.so.4 ||
		{ why='libcurl-gnutls is not installed (Debian package libcurl3-gnutls)'; return 77; }
	host '' && works before=libcurl-gnutls.so.4
}
# Not with RTLD_DEEPBIND: then the C library's own calls of malloc and the plugin's part.
an_allocator_of_its_own() {
	without_sanitizer || return 77
	has_jsonc shared && host "$exported -fno-builtin" "$here/neighbour_malloc.c" && works
}

# Names that mean something else in the host.
names_of_jsonc() {
	named_host JSONC || return 1
	if jsonc_is_built_in; then works; else is_refused libjson-c "$scratch/host"; fi
}
names_of_jsonc_bound_at_once() {
	named_host JSONC || return 1
	if jsonc_is_built_in; then LD_BIND_NOW=1 works; else LD_BIND_NOW=1 is_refused libjson-c "$scratch/host"; fi
}
names_of_libconfig_are_refused() {
	named_host CONFIG && is_refused libconfig "$scratch/host"
}
names_of_sqlite_are_refused() {
	named_host SQLITE && is_refused libsqlite3 "$scratch/host"
}
names_of_curl_are_refused() {
	named_host CURL && is_refused libcurl "$scratch/host"
}
names_of_openssl_are_refused() {
	named_host OPENSSL && is_refused libcrypto "$scratch/host"
}
names_of_its_tls_are_refused() {
	named_host TLS && is_refused libssl "$scratch/host"
}
names_of_its_tls_are_refused_when_bound_at_once() {
	named_host TLS && LD_BIND_NOW=1 is_refused libssl "$scratch/host"
}
all_these_names_and_the_plugin_bound_deep() {
	without_sanitizer || return 77
	named_host JSONC CONFIG SQLITE CURL OPENSSL TLS && works deepbind
}
all_these_names_not_exported() {
	local link=$exported
	exported=
	named_host JSONC CONFIG SQLITE CURL OPENSSL TLS && works
	local rc=$?
	exported=$link
	return $rc
}
names_of_a_library_before_the_plugin_are_refused() {
	make_names SQLITE TLS && host '' && is_refused 'lib\(ssl\|sqlite3\)' names.so "before=$scratch/names.so"
}
names_of_a_library_after_the_plugin() {
	make_names CONFIG SQLITE CURL OPENSSL TLS JSONC && host '' && works "after=$scratch/names.so"
}

tests='a_host_with_nothing_of_its_own
shared_jsonc
shared_jsonc_bound_at_once
shared_jsonc_and_the_plugin_global
shared_jsonc_and_the_plugin_bound_deep
built_in_jsonc
built_in_jsonc_exported
built_in_jsonc_exported_bound_at_once
built_in_jsonc_hidden
shared_jansson
shared_jansson_bound_at_once
shared_jansson_and_the_plugin_global
built_in_jansson
built_in_jansson_exported
built_in_jansson_exported_as_a_whole_bound_at_once
built_in_jansson_exported_and_the_plugin_bound_deep
a_stranger_with_jansson_before_the_plugin
a_stranger_with_jansson_after_the_plugin
shared_curl_openssl_and_sqlite
shared_curl_openssl_and_sqlite_bound_at_once
shared_curl_openssl_and_sqlite_and_the_plugin_global
all_libraries_in_a_host_at_a_fixed_address
built_in_openssl_not_exported
built_in_openssl_hidden
built_in_openssl_exported_in_part_is_refused
built_in_openssl_exported_in_part_and_the_plugin_bound_deep
built_in_openssl_exported_as_a_whole_is_used
built_in_sqlite
built_in_sqlite_exported_is_used
curl_with_gnutls_before_the_plugin
an_allocator_of_its_own
names_of_jsonc
names_of_jsonc_bound_at_once
names_of_libconfig_are_refused
names_of_sqlite_are_refused
names_of_curl_are_refused
names_of_openssl_are_refused
names_of_its_tls_are_refused
names_of_its_tls_are_refused_when_bound_at_once
all_these_names_and_the_plugin_bound_deep
all_these_names_not_exported
names_of_a_library_before_the_plugin_are_refused
names_of_a_library_after_the_plugin'

# shellcheck disable=SC2046
if ! compile -o "$scratch/driver" "$here/neighbour_driver.c" "$harness" \
	$(flags --cflags --libs libcurl json-c openssl) -lpthread 2>"$scratch/why"; then
	printf '1..1\nnot ok 1 - the_driver_compiles\n'
	sed 's/^/# /' "$scratch/why"
	exit 1
fi

# Each begins without settings; why it is skipped stands in $why.
run_host() { # name
	local ended
	defines=
	libraries=
	why=
	"$1"
	ended=$?
	[ -z "$why" ] || echo "$why"
	return $ended
}

run_tests "$tests" run_host

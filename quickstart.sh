#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# From a bare Debian 12 or 13 or Ubuntu 24.04 to the demonstration or to the tests'
# counts, in one command. Installs Debian packages that are missing and npm packages into
# tests/servers/node_modules; everything else it makes is under build/ or build-check/.
set -euo pipefail

usage() {
	cat <<'TXT'
usage: ./quickstart.sh [--once]
       ./quickstart.sh check [--quick] [--full] [SUITE…]

Without a word: installs what is missing, builds into build/, starts a practice bank and an
example host on this machine, links an account through them, printing each step, and then
says which URL to open in a browser. Ctrl-C ends both.
  --once    ends after that, and links an account at a certified OpenID provider as well

check: builds with gcc and clang, warnings as errors, and with sanitizers, into
build-check/, and runs the suites in each tree. The last line is "N passed, N failed".
  --quick   the plain gcc tree only
  --full    the whole matrix where a test runs a sample of it
  SUITE     a folder under tests/; without names all of them
TXT
}

die() {
	printf 'quickstart.sh: %s\n' "$1" >&2
	exit 2
}

here=$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
export LC_ALL=C.UTF-8

check=
once=
quick=
full=()
suites=()
if [ "${1-}" = check ]; then
	check=1
	shift
fi
for word in "$@"; do
	case $check$word in
	-h | --help | 1-h | 1--help) usage && exit 0 ;;
	--once) once=1 ;;
	1--quick) quick=1 ;;
	1--full) full=(--full) ;;
	1-*) die "check has no option $word (--help lists them)" ;;
	1*) suites+=("$word") ;;
	*) die "I don't know '$word' (--help lists the words)" ;;
	esac
done

# automake refuses these in the middle of configure, in words that help nobody.
case $here in
*[[:space:]\\\"\#\$\&\'\`]*)
	die "the build tools can't work in '$here': move it to a path without spaces, quotes or any of \\ # \$ & \`"
	;;
esac
[ ! -f "$here/config.status" ] ||
	die "the source folder itself is configured, which rules out other build folders: run 'make distclean' in it first"
cd "$here"

# Runs a command with its output in a log, which is shown if the command fails.
step() {
	local log=$1 title=$2 start=$SECONDS
	shift 2
	mkdir -p "${log%/*}"
	printf '%s … ' "$title"
	if ("$@") </dev/null >"$log" 2>&1; then
		printf 'done (%d s)\n' $((SECONDS - start))
		return 0
	fi
	printf 'failed\n'
	tail -n 40 "$log" | sed 's/^/     /'
	printf '     The whole log is %s\n' "$log"
	return 1
}

installed() {
	[[ " $(dpkg-query -W -f='${db:Status-Status} ' "$1" 2>/dev/null)" == *' installed '* ]]
}

# apt-get install, with fresh package lists if the present ones don't do.
apt_install() {
	local as_root=("$@") package fresh=1 install
	as_root+=(env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300)
	install=("${as_root[@]}" install --no-install-recommends "${missing[@]}")
	for package in "${missing[@]}"; do
		[[ $(apt-cache policy "$package") =~ Candidate:\ [^\(] ]] || fresh=
	done
	if [ -n "$fresh" ] && "${install[@]}"; then
		return 0
	fi
	"${as_root[@]}" update && "${install[@]}"
}

# Installs those of the named Debian packages that are missing; root is asked for only then.
need_packages() {
	local log=$1 package missing=() as_root=()
	shift
	if ! command -v apt-get >/dev/null; then
		printf 'No apt-get here: install what these Debian packages hold yourself: %s\n' "$*"
		return 0
	fi
	for package in "$@"; do
		installed "$package" || missing+=("$package")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	printf 'Missing Debian packages: %s\n' "${missing[*]}"
	if [ "$(id -u)" -ne 0 ]; then
		command -v sudo >/dev/null || die "neither root nor sudo: have these packages installed, then come back"
		printf 'Installing them needs root, by sudo.\n'
		sudo -v
		as_root=(sudo)
	fi
	step "$log" 'Installing them' apt_install "${as_root[@]}"
}

npm_install() {
	cd "$1" && npm ci --ignore-scripts --no-audit --no-fund
}

# npm packages of a folder under tests/.
need_npm() {
	local log=$1 dir=$here/tests/$2 what=$3
	[ "$dir/node_modules/.package-lock.json" -nt "$dir/package-lock.json" ] ||
		step "$log" "Installing $what from npm" npm_install "$dir"
}

# The certified provider that the demonstration and the tests run against.
need_servers() {
	need_npm "$1" servers 'the certified provider'
}

# What drives the browser, where that suite is wanted.
need_browser_driver() {
	[[ " ${suites[*]} " != *' browser '* ]] ||
		need_npm "$here/build-check/npm-browser.log" browser 'playwright-core'
}

build_packages=(gcc g++ libc6-dev make autoconf automake libtool pkgconf libcurl4-openssl-dev
	libjson-c-dev libconfig-dev libssl-dev libsqlite3-dev libmicrohttpd-dev openssl ca-certificates)
npm_packages=()
command -v npm >/dev/null || npm_packages=(npm)

# Configures a tree again only when it was configured otherwise before, and makes it.
build_tree() {
	local tree=$1 target=$2
	shift 2
	if [ configure.ac -nt configure ] || [ Makefile.am -nt Makefile.in ]; then
		./autogen.sh || return
	fi
	mkdir -p "$tree" && cd "$tree" || return
	if [ ! -f config.status ] || [ "$(cat quickstart.flags 2>/dev/null)" != "$*" ]; then
		"$here/configure" "$@" || return
		printf '%s' "$*" >quickstart.flags
	fi
	make -j"$(nproc)" "$target"
}

demonstrate() {
	local build=$here/build packages=("${build_packages[@]}")
	[ -z "$once" ] || packages+=("${npm_packages[@]}")
	need_packages "$build/packages.log" "${packages[@]}"
	[ -z "$once" ] || need_servers "$build/npm.log"
	step "$build/quickstart.log" 'Building acctlink' build_tree "$build" all
	printf '\n'
	export ACCTLINK_PLUGIN=$build/.libs/acctlink.so TH_SRCDIR=$here TH_BUILDDIR=$build
	[ -n "$once" ] || exec hosts/example/run.sh --builddir "$build"
	hosts/example/run.sh --builddir "$build" --once
	printf '\nThe same at a certified OpenID provider (npm oidc-provider, unmodified):\n'
	exec "$build/hosts/c/demo"
}

export ASAN_OPTIONS="exitcode=99:detect_leaks=1:halt_on_error=1:abort_on_error=0:handle_abort=1:handle_segv=2:handle_sigbus=2:handle_sigfpe=2"
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
export TSAN_OPTIONS="halt_on_error=1 second_deadlock_stack=1"
[ ! -f tests/tsan.supp ] || TSAN_OPTIONS+=" suppressions=$here/tests/tsan.supp"
valgrind='valgrind -q --error-exitcode=99 --leak-check=full'
passed=0
failed=0
skipped=0
failures=()

# tests/run works in the background, so that an end by a signal is passed on to it at once.
runner=
end_runner() {
	[ -z "$runner" ] || { kill "$runner" && wait "$runner"; } 2>/dev/null || :
}
trap end_runner EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

count_ok() {
	passed=$((passed + 1))
	printf 'ok   %s\n' "$1"
}

count_fail() {
	failed=$((failed + 1))
	failures+=("$1")
	printf 'FAIL %s\n' "$1"
}

# Builds the tree of that name under build-check/ and counts that as one result.
check_build() {
	local name=$1 what=$2 tree=$here/build-check/$1
	shift 2
	printf '\n'
	if step "$tree/quickstart.log" "Building $name ($what)" build_tree "$tree" check-build "$@"; then
		count_ok "build/$name: $what"
	else
		count_fail "build/$name: $what"
		return 1
	fi
}

# Runs suites in a built tree and adds up what tests/run counted in its last line.
check_suites() {
	local tree=$here/build-check/$1 label=$2 log reader out status=0 line
	local counts='^([0-9]+) passed, ([0-9]+) failed(, ([0-9]+) skipped)?$'
	shift 2
	log=$tree/tests-$label.log
	printf '\n'
	exec {out}> >(tee "$log" | sed -uE '/^[0-9]+ passed, [0-9]+ failed/d')
	reader=$!
	"${no_aslr[@]}" tests/run --builddir "$tree" --label "$label" "$@" >&"$out" {out}>&- &
	runner=$!
	wait "$runner" || status=$?
	runner=
	exec {out}>&-
	wait "$reader"
	if [[ $(tail -n 1 "$log") =~ $counts ]] && [ "$status" -eq $((BASH_REMATCH[2] > 0)) ]; then
		passed=$((passed + BASH_REMATCH[1]))
		failed=$((failed + BASH_REMATCH[2]))
		skipped=$((skipped + ${BASH_REMATCH[4]:-0}))
		while IFS= read -r line; do
			failures+=("$label: ${line#FAIL }")
		done < <(grep '^FAIL ' "$log")
	else
		count_fail "$label: tests/run ran no test or gave no counts (exit status $status)"
	fi
}

check_all() {
	local suite threaded=() no_aslr=()
	check_build plain 'gcc, warnings are errors' CC=gcc CXX=g++ --enable-werror || return 0
	check_suites plain plain "${full[@]}" "${suites[@]}"
	[ -z "$quick" ] || return 0

	check_build clang 'clang, warnings are errors' CC=clang CXX=clang++ --enable-werror || :
	for suite in "${suites[@]}"; do
		case $suite in
		unit) check_suites plain valgrind --wrapper "$valgrind" unit ;;
		abi | flow | concurrency) threaded+=("$suite") ;;
		esac
	done
	# Newer kernels place memory where older sanitizers don't expect it.
	! setarch -R true 2>/dev/null || no_aslr=(setarch -R)
	if check_build asan 'gcc, address and undefined' CC=gcc CXX=g++ --enable-sanitize=address,undefined CFLAGS='-g -O1'; then
		check_suites asan asan "${full[@]}" "${suites[@]}"
	fi
	[ ${#threaded[@]} -gt 0 ] || return 0
	if check_build tsan 'gcc, thread' CC=gcc CXX=g++ --enable-sanitize=thread CFLAGS='-g -O1'; then
		check_suites tsan tsan "${full[@]}" "${threaded[@]}"
	fi
}

check() {
	local packages=("${build_packages[@]}" "${npm_packages[@]}" libcmocka-dev) known name
	[ -n "$quick" ] || packages+=(clang valgrind)
	mapfile -t known < <(tests/run --list)
	for name in "${suites[@]}"; do
		[[ " ${known[*]} " == *" $name "* ]] || die "there is no suite '$name'; there are: ${known[*]}"
	done
	[ ${#suites[@]} -gt 0 ] || suites=("${known[@]}")
	for name in "${suites[@]}"; do
		case $name in
		browser) packages+=(chromium fonts-dejavu-core) ;;
		citizen) packages+=(mandoc curl libjansson-dev zlib1g-dev clang-format clang-tidy cppcheck shellcheck) ;;
		cli) packages+=(curl jq) ;;
		conformance) packages+=(nghttp2-proxy) ;;
		esac
	done
	if need_packages "$here/build-check/packages.log" "${packages[@]}" &&
		need_servers "$here/build-check/npm.log" && need_browser_driver; then
		check_all
	else
		count_fail 'install: Debian and npm packages'
	fi

	if [ "$failed" -gt 0 ]; then
		printf '\nFailed:\n'
		printf '     %s\n' "${failures[@]}"
	fi
	printf '\nThat took %d min %d s.\n' $((SECONDS / 60)) $((SECONDS % 60))
	printf '%d passed, %d failed' "$passed" "$failed"
	[ "$skipped" -eq 0 ] || printf ', %d skipped' "$skipped"
	echo
	[ "$failed" -eq 0 ]
}

if [ -n "$check" ]; then
	check
else
	demonstrate
fi

#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Starts the practice provider and the example host on this machine, drives one whole
# link through them, and then leaves both running for a browser until Ctrl-C.
set -euo pipefail

usage() {
	cat <<'TXT'
usage: hosts/example/run.sh [--builddir DIR] [--once] [--port N]

  --builddir DIR  the built tree (build/)
  --once          ends after the headless link
  --port N        of the example host (8085, or the next one that is free)
TXT
}

die() {
	printf 'run.sh: %s\n' "$1" >&2
	exit 1
}

here=$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
build=$here/build
once=
port=8085
while [ $# -gt 0 ]; do
	case $1 in
	--builddir | --port)
		[ $# -ge 2 ] || die "$1 needs a value"
		if [ "$1" = --port ]; then port=$2; else build=$2; fi
		shift
		;;
	--once) once=1 ;;
	-h | --help) usage && exit 0 ;;
	*) die "unknown option $1 (--help lists them)" ;;
	esac
	shift
done
build=$(cd -P -- "$build" && pwd) || die "there is no $build"
for program in tools/practice/practice hosts/example/example hosts/example/walk; do
	[ -x "$build/$program" ] || die "$build/$program is missing: run ./quickstart.sh, or make with libmicrohttpd-dev installed"
done

# Everything is made anew each time and goes when this script ends.
home=$(mktemp -d "${TMPDIR:-/tmp}/acctlink-practice.XXXXXX")
started=()
finish() {
	local pid
	for pid in ${started[@]+"${started[@]}"}; do
		kill "$pid" 2>/dev/null || :
	done
	for pid in ${started[@]+"${started[@]}"}; do
		wait "$pid" 2>/dev/null || :
	done
	rm -rf "$home"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# A certificate for localhost that is its own authority.
make_certificate() {
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 \
		-subj '/CN=localhost' -addext 'subjectAltName=DNS:localhost,IP:127.0.0.1' \
		-addext 'basicConstraints=critical,CA:TRUE' -addext 'keyUsage=digitalSignature,keyCertSign' \
		-keyout "$home/bank.key" -out "$home/bank.pem" 2>"$home/openssl.log" ||
		die "openssl can't make a certificate: $(cat "$home/openssl.log")"
}

# Starts a program and waits for the line of JSON that says it is ready; sets $ready.
start() {
	local name=$1 line
	shift
	mkfifo "$home/$name.ready"
	"$@" >"$home/$name.ready" 2>"$home/$name.log" </dev/null &
	started+=($!)
	read -r -t 30 line <"$home/$name.ready" || die "$name did not start: $(cat "$home/$name.log")"
	ready=$line
}

# The text or number behind a name in $ready.
member() {
	[[ $ready =~ \"$1\":\"?([^\",}]*) ]] || die "$1 is missing in $ready"
	printf '%s' "${BASH_REMATCH[1]}"
}

free_port() {
	while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
		port=$((port + 1))
	done
}

# What an operator would write, but for the practice provider's address.
write_config() {
	(umask 077 && head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$home/store.key")
	(umask 077 && printf 'test-secret' >"$home/bank.secret")
	cat >"$home/acctlink.conf" <<TXT
store = {
	path = "$home/store/acctlink.db";
	key_file = "$home/store.key";
};

providers = {
	practice = {
		profile = "akoya";
		issuer = "$issuer/";
		authorization_endpoint = "$front/auth";
		ca_file = "$home/bank.pem";
		client_id = "test-client";
		client_secret_file = "$home/bank.secret";
		redirect_uri = "http://localhost:$port/callback";
		# The button Refresh shall do what it says at any time.
		min_refresh_interval = 0;
	};
};
TXT
}

command -v openssl >/dev/null || die 'the openssl command is missing: install the Debian package openssl'
make_certificate
start bank "$build/tools/practice/practice" --tls-cert "$home/bank.pem" --tls-key "$home/bank.key" \
	--front-port 0 --ledger "$home/ledger" \
	--set '{"pages":true,"habits":true,"issuer_path":"/","rotation":"dex","access_token":false}'
issuer=$(member issuer)
front=$(member front)
control=$(member control)
free_port
write_config
start host "$build/hosts/example/example" --plugin "${ACCTLINK_PLUGIN:-$build/.libs/acctlink.so}" \
	--config "$home/acctlink.conf" --provider practice --port "$port" --base-url "http://localhost:$port" \
	--data-url "$issuer" --ca-file "$home/bank.pem"
url=$(member url)

printf 'The practice provider: %s (pages for browsers: %s, ledger: %s/ledger)\n' "$issuer" "$front" "$control"
printf 'The example host:      %s\n' "$url"
"$build/hosts/example/walk" --url "$url" --ca-file "$home/bank.pem" --control "$control" ||
	die "the headless link failed; the host wrote: $(tail -n 20 "$home/host.log")"
if [ -n "$once" ]; then
	exit 0
fi
printf '\nBoth are running. Open %s in a browser, and link an account yourself.\n' "$url"
printf 'The bank takes any password. Ctrl-C ends both.\n'
wait -n "${started[@]}" || :
die "a server ended by itself: $(tail -n 20 "$home/bank.log" "$home/host.log")"

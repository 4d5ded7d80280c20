# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# A small world for the tests of acctlinkctl: a practice provider with TLS, and for each test a
# folder with config, key and store. Sourced; needs curl, jq and openssl. What is run through
# `ctl` leaves $code, $out and $err, and everything but a bearer's output is kept in
# $scratch/said for the search for secrets.

# shellcheck source=tests/lib/tap.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../lib/tap.sh"
srcdir=${TH_SRCDIR:-$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)}
builddir=$(cd -P -- "${TH_BUILDDIR:-$srcdir/build}" && pwd)
program=$builddir/tools/acctlinkctl/acctlinkctl
practice=$builddir/tools/practice/practice
scratch=$(mktemp -d "${TMPDIR:-/tmp}/acctlinkctl.XXXXXX")
out=$scratch/out
err=$scratch/err
bank_pid=
unset ACCTLINK_CONFIG CREDENTIALS_DIRECTORY

world_end() {
	[ -z "$bank_pid" ] || kill "$bank_pid" 2>/dev/null
	rm -rf "$scratch"
}
exec </dev/null
trap world_end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# A program that a failed test has left behind ends with it.
run_test() { # name
	local ended
	link_pid=
	"$1"
	ended=$?
	[ -z "$link_pid" ] || kill "$link_pid" 2>/dev/null
	return $ended
}

bail_out() {
	printf 'Bail out! %s\n' "$1"
	exit 1
}

wait_until() { # seconds, command
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		[ "$SECONDS" -lt "$end" ] || { echo "waited in vain for: $*" >&2; return 1; }
		sleep 0.02
	done
}

# ---- the provider ------------------------------------------------------------------------------

bank_start() {
	local line
	chmod 0755 "$scratch"
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj '/CN=localhost' \
		-addext 'subjectAltName=DNS:localhost,IP:127.0.0.1' -addext 'basicConstraints=critical,CA:TRUE' \
		-addext 'keyUsage=digitalSignature,keyCertSign' -keyout "$scratch/bank.key" -out "$scratch/bank.pem" \
		2>"$scratch/openssl.log" || bail_out "openssl: $(tr '\n' ' ' <"$scratch/openssl.log")"
	mkfifo "$scratch/ready"
	"$practice" --tls-cert "$scratch/bank.pem" --tls-key "$scratch/bank.key" >"$scratch/ready" \
		2>"$scratch/bank.log" </dev/null &
	bank_pid=$!
	read -r -t 60 line <"$scratch/ready" || bail_out "the practice provider did not start: $(cat "$scratch/bank.log")"
	bank=$(jq -r '.issuer' <<<"$line")
	admin=$(jq -r '.control' <<<"$line")
	bank_reset
}

bank_says() { # JSON for the control port
	curl -sS -f -o "$scratch/answer" -d "$1" "$admin/control" || { echo "control: $1"; return 1; }
}

bank_reset() {
	bank_says '{"down": false, "clear": true, "reset_ledger": true, "kill_grant": "all", "set": {"issuer_path": "/", "rotation": "hydra",
		"sub": null, "clients": null, "auth": null, "discovery": null, "access_ttl": 3600, "id_token_ttl": 3600}}'
}

ledger() { # jq filter
	curl -sS -f "$admin/ledger" | jq -r "$1"
}

# Whole requests that arrived at an endpoint: "token", "revoke", "discovery", "jwks", "auth".
arrived() { # endpoint, grant or nothing
	curl -sS -f "$admin/ledger/count?endpoint=$1${2:+&grant=$2}" | jq -r .count
}

expect_arrived() { # number, endpoint, grant or nothing
	local got
	got=$(arrived "$2" "${3-}")
	[ "$got" = "$1" ] || { echo "$got requests arrived at $2 ${3-}, not $1"; return 1; }
}

no_token_arrived_twice() {
	local most
	most=$(ledger '[.arrivals[], 0] | max')
	[ "$most" -le 1 ] || { echo "a code or refresh token arrived $most times"; return 1; }
}

# A port that nobody listens on.
free_port() {
	local port
	while :; do
		port=$((20000 + RANDOM % 12000)) # below those that the system gives out
		(exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
	done
	echo "$port"
}

# ---- config, key, store ------------------------------------------------------------------------

write_config() { # file
	cat >"$1" <<TXT
store = {
	path = "$world/store/acctlink.db";
	key_file = "$world/store.key";
};

providers = {
	practice = {
		profile = "akoya";
		issuer = "$bank/";
		ca_file = "$world/bank.pem";
		client_id = "test-client";
		client_secret_file = "$world/bank.secret";
		redirect_uri = [ "https://app.example/callback", "$redirect" ];
		min_refresh_interval = 0;
	};
	plain = {
		issuer = "$bank/";
		ca_file = "$world/bank.pem";
		client_id = "test-client";
		client_secret_file = "$world/bank.secret";
		redirect_uri = "https://app.example/callback";
		min_refresh_interval = 0;
	};
};
TXT
}

# A new folder with an empty store, and a provider that has forgotten what it was told.
new_world() {
	world=$(mktemp -d "$scratch/world.XXXXXX")
	redirect=http://127.0.0.1:$(free_port)/callback
	chmod 0755 "$world" && mkdir -m 0700 "$world/store" && cp "$scratch/bank.pem" "$world"
	(umask 077 && head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$world/store.key" &&
		printf 'test-secret' >"$world/bank.secret")
	export ACCTLINK_CONFIG=$world/acctlink.conf
	write_config "$ACCTLINK_CONFIG"
	bank_reset
}

# ---- the program -------------------------------------------------------------------------------

keep_said() {
	cat "$out" "$err" >>"$scratch/said"
}

ctl() { # arguments; stdin is the caller's
	"$program" "$@" >"$out" 2>"$err"
	code=$?
	case " $* " in
	*' bearer '*) cat "$err" >>"$scratch/said" ;;
	*) keep_said ;;
	esac
	return 0
}

explain() {
	printf '%s\n-- stdout:\n%s\n-- stderr:\n%s\n' "$1" "$(cat "$out")" "$(cat "$err")"
}

ctl_exits() { # exit code, arguments
	local wanted=$1
	shift
	ctl "$@"
	[ "$code" = "$wanted" ] || { explain "acctlinkctl $* ends with $code, not $wanted"; return 1; }
}

# A line "name value" on stdout, the value as an extended regular expression.
line() { # name, value
	grep -qxE "$1 +$2" "$out" || { explain "there is no line '$1 $2'"; return 1; }
}

# stdout is one JSON object, and the filter is true of it.
json() { # jq filter, options of jq
	local filter=$1
	shift
	[ "$(jq -s 'length' "$out" 2>/dev/null)" = 1 ] || { explain 'that is not one JSON object'; return 1; }
	jq -e "$@" "$filter" "$out" >/dev/null 2>&1 || { explain "this is not true of it: $filter"; return 1; }
}

on_stderr() { # extended regular expression
	grep -qE -e "$1" "$err" || { explain "stderr does not say '$1'"; return 1; }
}

silent() { # file: $out or $err
	[ ! -s "$1" ] || { explain "${1##*/} should be empty"; return 1; }
}

# ---- a user with a browser ---------------------------------------------------------------------

# Where the consent page at an address sends the browser; the provider consents by itself.
browse() { # URL
	curl -sS -o "$scratch/page" -w '%{redirect_url}' --cacert "$scratch/bank.pem" "$1"
}

# A whole line that is an address; fails for good if the program has ended without one.
url_in() { # file
	grep -m 1 -E '^https?://[^ ]+$' "$1" || ! kill -0 "$link_pid" 2>/dev/null
}

# Every user signs in at the bank with a login of their own.
login_of() { # user, provider
	bank_says "{\"set\": {\"sub\": \"sub-$1-$2\"}}"
}

# Starts `link --paste` with a pipe at its stdin and waits for the address of the consent page.
paste_start() { # arguments of link
	rm -f "$scratch/stdin"
	mkfifo "$scratch/stdin"
	: >"$out" # what is there is not waited for
	exec 9<>"$scratch/stdin"
	"$program" link --paste "$@" >"$out" 2>"$err" <"$scratch/stdin" 9>&- &
	link_pid=$!
	consent_url=$(wait_until 30 url_in "$out")
	[ -n "$consent_url" ] || { explain 'link writes no address'; return 1; }
}

paste_end() { # the line that is pasted
	printf '%s\n' "$1" >&9
	exec 9>&-
	wait "$link_pid"
	code=$?
	keep_said
}

# A whole consent; leaves $code, $out and $err as `ctl` does.
link_up() { # user, provider, institution or nothing
	login_of "$1" "$2" && paste_start "$@" && paste_end "$(browse "$consent_url")" || return 1
	[ "$code" = 0 ] || { explain "link $* ends with $code"; return 1; }
}

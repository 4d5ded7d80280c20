#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Runs acctlinkctl as an operator would, against a practice provider: each command as text and
# as JSON, exit codes, every example of the man page, files as root and as the service, and at
# the end a search for secrets in all that was written. Prints TAP. Needs curl, jq, openssl;
# script(1) for the terminal, root and setpriv(1) for the owners. Given names of tests, it runs
# those only.
# shellcheck disable=SC2015,SC2016 # what follows || ends a test; dollar signs are jq's
set -u

here=$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/cli/world.sh
. "$here/world.sh"
page=$srcdir/man/acctlinkctl.1
commands='init check link list show bearer refresh unlink forget import pause resume'

skip() {
	echo "$1"
	return 77
}

# ---- the command line ----------------------------------------------------------------------------

help_and_version_are_told_on_stdout() {
	local command
	ctl_exits 0 --help && silent "$err" || return 1
	for command in $commands; do
		grep -qE "^  $command( |\$)" "$out" || { echo "--help does not name $command"; return 1; }
	done
	ctl_exits 0 -h && ctl_exits 0 -V && ctl_exits 0 --version && silent "$err" && grep -qE '[0-9]+\.[0-9]' "$out"
}

a_wrong_command_line_ends_with_2_and_says_why_on_stderr() {
	local line
	while IFS= read -r line; do
		# shellcheck disable=SC2086 # one word an argument
		ctl_exits 2 $line && silent "$out" && on_stderr . || return 1
	done <<-'TXT'

		nothing
		--nothing
		list --nothing
		show
		show ana
		show ana practice mikomo more
		bearer ana
		refresh
		unlink ana
		forget
		forget ana ben
		import
		import practice file more
		pause
		resume practice more
		check now
		--timeout
		--timeout 0 list ana
		--timeout 5s list ana
		--timeout 999999 list ana
		--state nonsense list
	TXT
}

no_option_takes_a_secret() {
	local option
	for option in --secret --client-secret --token --refresh-token --key --password; do
		ctl_exits 2 init "$option" x || return 1
	done
}

with_json_a_wrong_command_line_is_an_object_as_well() {
	new_world
	ctl_exits 2 --json show ana && json '.error.status == "COMMAND_FAILED" and .error.code == 0' &&
		ctl_exits 2 nothing --json && json '.error.message | test("nothing")'
}

an_option_of_another_command_is_refused() {
	new_world
	ctl_exits 2 list ana --online && ctl_exits 2 check --show && ctl_exits 2 show ana practice --state linked &&
		ctl_exits 2 unlink ana practice mikomo --paste
}

options_may_stand_anywhere() {
	new_world
	link_up ana practice mikomo || return 1
	unset ACCTLINK_CONFIG
	ctl_exits 0 -c "$world/acctlink.conf" --json show ana practice mikomo && json '.state == "linked"' &&
		ctl_exits 0 show ana --json practice -t 5 mikomo --config "$world/acctlink.conf" && json '.state == "linked"' &&
		ctl_exits 0 --config="$world/acctlink.conf" show -j -- ana practice mikomo && json '.state == "linked"'
}

a_user_whose_name_begins_with_a_hyphen_is_named_after_two() {
	new_world
	ctl_exits 3 --json show -- -ana practice mikomo && json '.error.status == "NOT_LINKED"'
}

the_config_of_the_line_wins_over_the_one_of_the_environment() {
	new_world
	export ACCTLINK_CONFIG=/nowhere/acctlink.conf
	ctl_exits 0 -c "$world/acctlink.conf" list ana && ctl_exits 5 list ana && on_stderr /nowhere/acctlink.conf
}

every_command_says_with_json_that_the_config_is_missing() {
	local command
	for command in check 'link ana practice' list 'show ana practice' 'bearer ana practice' 'refresh ana practice' \
		'unlink ana practice' 'forget ana' 'import practice' 'pause practice' 'resume practice'; do
		# shellcheck disable=SC2086 # one word an argument
		ctl_exits 5 -c /nowhere/acctlink.conf --json $command &&
			json '.error.status == "BAD_CONFIG" and .error.code == 400 and (.error.where | test("/nowhere"))' || return 1
	done
}

# ---- check -----------------------------------------------------------------------------------------

check_lists_the_providers_of_a_good_config() {
	new_world
	ctl_exits 0 check && silent "$err" && grep -q practice "$out" && grep -q plain "$out" &&
		ctl_exits 0 check --json && silent "$err" && json '[.providers[].name] | sort == ["plain", "practice"]' &&
		expect_arrived 0 discovery && expect_arrived 0 token
}

# Each has a fault on the line that is numbered.
check_names_file_and_line_of_a_fault() {
	local file number fault
	while IFS='|' read -r number fault; do
		new_world
		file=$world/acctlink.conf
		sed -i "${number}s#.*#$fault#" "$file"
		ctl_exits 5 check && silent "$out" && on_stderr "^acctlinkctl: .*acctlink\.conf:$number: ." &&
			ctl_exits 5 check --json &&
			json '.error.status == "BAD_CONFIG" and .error.code == 400 and .error.where == $w' --arg w "$file:$number" ||
			{ echo "the fault: $fault"; return 1; }
	done <<-'TXT'
		2|path = ;
		3|key_files = [ 5 ];
		8|profile = "nobody";
		9|isuer = "https://bank.example";
		12|client_secret_file = "missing.secret";
		13|redirect_uri = "ftp://app.example/";
		14|min_refresh_interval = -1;
	TXT
}

check_names_a_key_or_secret_that_others_may_read() {
	new_world
	chmod 0644 "$world/store.key"
	ctl_exits 5 check && on_stderr store.key && ctl_exits 5 -j check && json '.error.status == "BAD_KEY"' || return 1
	chmod 0600 "$world/store.key"
	chmod 0640 "$world/bank.secret"
	ctl_exits 5 check && on_stderr bank.secret && ctl_exits 5 -j check && json '.error.status == "BAD_CONFIG"'
}

check_finds_a_key_that_is_not_the_stores() {
	new_world
	link_up ana practice mikomo || return 1
	printf '%064d' 7 >"$world/store.key"
	ctl_exits 5 check --json && json '.error.code == 402' && ctl_exits 5 show ana practice mikomo
}

check_online_is_good_and_spends_nothing() {
	new_world
	link_up ana practice mikomo && link_up ana plain || return 1
	bank_says '{"reset_ledger": true}'
	ctl_exits 0 check --online --json && json '[.providers[].name] | sort == ["plain", "practice"]' &&
		grep -q RS256 "$out" && ctl_exits 0 check --online && grep -q RS256 "$out" || return 1
	[ "$(ledger '[.grants[] | select(.alive)] | length')" -ge 2 ] || { echo 'a consent ended'; return 1; }
	[ "$(ledger '[.requests[] | select(.endpoint == "token" and .spent)] | length')" = 0 ] ||
		{ echo 'a code or token was spent'; return 1; }
	expect_arrived 0 token refresh_token && expect_arrived 0 auth && expect_arrived 4 token authorization_code &&
		ctl_exits 0 refresh ana practice mikomo && ctl_exits 0 refresh ana plain
}

# The provider gets worse, and check must say at which point.
online_fails() { # words for the control port, what stderr or the object must say
	new_world
	bank_says "$1"
	ctl_exits 1 check --online
	grep -qiE "$2" "$out" "$err" || { explain "nothing about '$2'"; return 1; }
	ctl_exits 1 check --online --json && json '[.. | strings | select(test($w; "i"))] | length > 0' --arg w "$2"
}

check_online_finds_a_wrong_secret() {
	online_fails '{"set": {"clients": {"test-client": "another"}}}' 'CLIENT_REFUSED|invalid_client'
}

check_online_finds_keys_that_can_not_be_fetched() {
	online_fails '{"queue": [{"endpoint": "jwks", "times": -1, "do": {"status": 503, "body": "later"}}]}' 'jwks|keys'
}

check_online_finds_keys_that_are_none() {
	online_fails '{"queue": [{"endpoint": "jwks", "times": -1, "do": {"json": {"keys": []}}}]}' 'jwks|keys'
}

check_online_finds_metadata_that_can_not_be_fetched() {
	online_fails '{"queue": [{"endpoint": "discovery", "times": -1, "do": {"status": 404, "body": "none"}}]}' \
		'discovery|metadata|openid-configuration'
}

check_online_finds_another_issuer() {
	online_fails '{"set": {"discovery": {"issuer": "https://evil.example/"}}}' issuer
}

check_online_finds_a_certificate_that_is_not_trusted() {
	new_world
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj '/CN=else' \
		-keyout "$world/else.key" -out "$world/bank.pem" 2>/dev/null
	ctl_exits 1 check --online
	grep -qiE 'certificate|TLS' "$out" "$err" || { explain 'nothing about the certificate'; return 1; }
}

check_online_goes_on_with_the_next_provider() {
	new_world
	bank_says '{"queue": [{"endpoint": "discovery", "times": -1, "do": {"status": 404, "body": "none"}}]}'
	ctl_exits 1 check --online --json && json '.providers | length == 2' && expect_arrived 1 token authorization_code
}

# ---- link --------------------------------------------------------------------------------------------

link_takes_the_address_that_is_pasted() {
	new_world
	link_up ana practice mikomo || return 1
	grep -qE '^link_id +[0-9a-f-]+' "$out" && line provider practice && line institution mikomo && line epoch 1 &&
		line generation 1 && expect_arrived 1 token && no_token_arrived_twice
}

link_renews_a_link_that_is_there() {
	new_world
	link_up ana practice mikomo && link_up ana practice mikomo && line epoch 2 && grep -q renewed "$out"
}

link_with_json_writes_the_address_to_stderr() {
	new_world
	login_of ana practice
	mkfifo "$world/stdin"
	: >"$err"
	exec 9<>"$world/stdin"
	"$program" link --json --paste ana practice mikomo >"$out" 2>"$err" <"$world/stdin" 9>&- &
	link_pid=$!
	consent_url=$(wait_until 30 url_in "$err")
	paste_end "$(browse "$consent_url")"
	[ "$code" = 0 ] || { explain "link ends with $code"; return 1; }
	json '.provider == "practice" and .institution == "mikomo" and .epoch == 1 and .generation == 1'
}

# Starts a link that listens; the browser goes to the bank and comes back at $back.
listen_start() { # arguments of link
	: >"$out"
	"$program" link "$@" >"$out" 2>"$err" &
	link_pid=$!
	consent_url=$(wait_until 30 url_in "$out")
	[ -n "$consent_url" ] || { explain 'link writes no address'; return 1; }
	back=$(browse "$consent_url")
}

listen_end() { # exit code
	wait "$link_pid"
	code=$?
	keep_said
	[ "$code" = "$1" ] || { explain "link ends with $code, not $1"; return 1; }
}

link_listens_for_the_browser_on_the_loopback_redirect() {
	local status
	new_world
	login_of ana practice
	listen_start ana practice mikomo || return 1
	case $back in
	"$redirect?"*) ;;
	*) echo "the bank sends the browser to $back, not $redirect"; return 1 ;;
	esac
	[ "$(curl -sS -o /dev/null -w '%{http_code}' "${redirect%/callback}/favicon.ico")" = 404 ] ||
		{ echo 'there is an icon'; return 1; }
	status=$(curl -sS -o "$scratch/page" -w '%{http_code}' "$back")
	[ "$status" = 200 ] && grep -qi 'close this window' "$scratch/page" || { echo "the browser gets $status"; return 1; }
	listen_end 0 && line provider practice && no_token_arrived_twice && ctl_exits 0 show ana practice mikomo
}

link_takes_a_form_that_is_posted() {
	new_world
	login_of ana practice
	listen_start ana practice mikomo || return 1
	[ "$(curl -sS -o /dev/null -w '%{http_code}' -d "${back#*\?}" "$redirect")" = 200 ] && listen_end 0
}

link_ends_with_3_if_the_user_says_no() {
	new_world
	bank_says '{"queue": [{"endpoint": "auth", "do": {"error": "access_denied"}}]}'
	listen_start ana practice mikomo || return 1
	curl -sS -o "$scratch/page" "$back" && listen_end 3 && on_stderr . || return 1
	! grep -qi 'you are linked\|account is linked' "$scratch/page" || { echo 'the browser is told that it is linked'; return 1; }
	ctl_exits 3 show ana practice mikomo
}

link_refuses_a_forged_answer() {
	new_world
	paste_start ana practice mikomo || return 1
	paste_end "$redirect?code=made-up&state=made-up"
	[ "$code" = 2 ] || [ "$code" = 3 ] || { explain "link ends with $code"; return 1; }
	expect_arrived 0 token
}

link_gives_up_when_the_time_is_up() {
	new_world
	ctl_exits 4 link --timeout 1 ana practice mikomo && on_stderr .
}

link_says_that_its_port_is_taken() {
	new_world
	listen_start ana practice mikomo || return 1
	"$program" link --json ben practice mikomo >"$world/out" 2>"$world/err"
	code=$?
	[ "$code" = 5 ] && [ "$(jq -r .error.where "$world/out")" = "$redirect" ] ||
		{ echo "it ends with $code: $(cat "$world/out" "$world/err")"; return 1; }
	curl -sS -o "$scratch/page" "$back" && listen_end 0
}

link_uses_the_redirect_uri_that_is_asked_for() {
	new_world
	paste_start ana practice mikomo --redirect-uri https://app.example/callback || return 1
	case $(browse "$consent_url") in
	https://app.example/callback\?*) ;;
	*) echo 'the bank sends the browser elsewhere'; return 1 ;;
	esac
	paste_end '' && ctl_exits 2 link ana practice mikomo --paste --redirect-uri https://evil.example/
}

# ---- list and show -----------------------------------------------------------------------------------

three_links() {
	new_world
	link_up ana practice mikomo && link_up ana plain && link_up ben practice mikomo
}

list_shows_the_links_of_a_user_or_of_all() {
	three_links || return 1
	ctl_exits 0 list ana --json && json '[.links[] | .provider] | sort == ["plain", "practice"]' &&
		json 'all(.links[]; .state == "linked" and .epoch == 1 and .generation == 1 and (.authorized_at | test("^20..-..-..T..:..:..Z$")))' &&
		ctl_exits 0 --json list && json '[.links[] | .user] | sort == ["ana", "ana", "ben"]' &&
		ctl_exits 0 list chris --json && json '.links == []' &&
		ctl_exits 0 list chris && silent "$out" && ctl_exits 0 list ana || return 1
	[ "$(grep -cE '^state +linked$' "$out")" = 2 ] && line provider practice && line provider plain && line institution mikomo
}

list_keeps_to_its_filters() {
	three_links || return 1
	bank_says "{\"kill_grant\": $(ledger '[.grants[] | select(.sub == "sub-ben-practice")][-1].n')}"
	ctl_exits 3 refresh ben practice mikomo || return 1
	ctl_exits 0 list --json --provider plain && json '[.links[] | [.user, .provider]] == [["ana", "plain"]]' &&
		ctl_exits 0 list --json --state relink_required && json '[.links[] | .user] == ["ben"]' &&
		json '.links[0].reason == "revoked"' &&
		ctl_exits 0 list --json --state linked --provider practice && json '[.links[] | .user] == ["ana"]' &&
		ctl_exits 0 list --json ben --state linked && json '.links == []' &&
		ctl_exits 0 list --json --state stale && json '.links == []'
}

show_tells_all_but_the_secrets() {
	new_world
	link_up ana practice mikomo || return 1
	ctl_exits 0 show ana practice mikomo && silent "$err" && line state linked && line subject sub-ana-practice &&
		line epoch 1 && line generation 1 && line bearer_expires_at '20..-..-..T..:..:..Z' &&
		ctl_exits 0 show ana practice mikomo --json &&
		json '.provider == "practice" and .institution == "mikomo" and .state == "linked" and .generation == 1'
}

a_link_that_is_not_there_ends_with_3() {
	local command
	new_world
	link_up ana practice mikomo || return 1
	for command in show bearer refresh unlink; do
		ctl_exits 3 "$command" ben practice mikomo && silent "$out" && on_stderr '^acctlinkctl: ' &&
			ctl_exits 3 --json "$command" ana practice other &&
			json '.error.status == "NOT_LINKED" and .error.code == 200' || return 1
	done
}

an_unknown_provider_ends_with_2() {
	local command
	new_world
	for command in 'pause nobody' 'resume nobody' 'link ana nobody' 'import nobody'; do
		# shellcheck disable=SC2086 # one word an argument
		ctl_exits 2 --json $command && json '.error.message | test("nobody")' || return 1
	done
}

# ---- bearer and refresh ---------------------------------------------------------------------------------

accepted_by_the_bank() { # bearer
	local status
	status=$(printf 'Authorization: Bearer %s' "$1" |
		curl -sS -o "$scratch/page" -w '%{http_code}' -H @- --cacert "$scratch/bank.pem" "$bank/accounts/v2/mikomo")
	[ "$status" = 200 ] || { echo "the bank answers $status to the bearer"; return 1; }
}

bearer_writes_a_bearer_to_a_pipe_and_nothing_else() {
	local bearer
	new_world
	link_up ana practice mikomo || return 1
	ctl_exits 0 bearer ana practice mikomo && silent "$err" || return 1
	[ "$(wc -l <"$out")" = 1 ] || { echo 'that is not one line'; return 1; }
	bearer=$("$program" bearer ana practice mikomo | cat)
	[ "$bearer" = "$(cat "$out")" ] && accepted_by_the_bank "$bearer" &&
		ctl_exits 0 bearer ana practice mikomo --json || return 1
	[ "$(jq -r .bearer "$out")" = "$bearer" ] && json '.expires_at | test("^20.*Z$")' && expect_arrived 0 token refresh_token
}

on_a_terminal() { # command line; leaves $code and $out, where stderr is as well
	script -qec "$1" /dev/null </dev/null >"$out" 2>&1
	code=$?
	: >"$err"
}

a_terminal_gets_the_bearer_only_with_show() {
	local bearer
	command -v script >/dev/null || skip 'script(1) of bsdutils is not installed' || return
	script -qec true /dev/null </dev/null >/dev/null 2>&1 || skip 'there are no terminals here' || return
	new_world
	link_up ana practice mikomo || return 1
	bearer=$("$program" bearer ana practice mikomo)
	on_a_terminal "$program bearer ana practice mikomo"
	[ "$code" = 2 ] || { explain "it ends with $code, not 2"; return 1; }
	! grep -qF "$bearer" "$out" || { echo 'the terminal shows the bearer'; return 1; }
	on_a_terminal "$program --json bearer ana practice mikomo"
	[ "$code" = 2 ] || { explain "with --json it ends with $code, not 2"; return 1; }
	! grep -qF "$bearer" "$out" || { echo 'with --json the terminal shows the bearer'; return 1; }
	on_a_terminal "$program bearer --show ana practice mikomo"
	[ "$code" = 0 ] && grep -qF "$bearer" "$out" || { explain "with --show it ends with $code"; return 1; }
}

the_config_can_forbid_bearer() {
	new_world
	link_up ana practice mikomo || return 1
	echo 'operator_bearer = false;' >>"$ACCTLINK_CONFIG"
	ctl_exits 5 bearer ana practice mikomo && silent "$out" && on_stderr operator_bearer &&
		ctl_exits 5 bearer ana practice mikomo --show && silent "$out" &&
		ctl_exits 0 show ana practice mikomo && ctl_exits 0 refresh ana practice mikomo || return 1
	sed -i '$d' "$ACCTLINK_CONFIG"
	echo 'operator_bearer = true;' >>"$ACCTLINK_CONFIG"
	ctl_exits 0 bearer ana practice mikomo
}

a_bearer_that_can_not_be_written_is_no_success() {
	new_world
	link_up ana practice mikomo || return 1
	[ -c /dev/full ] || skip 'there is no /dev/full' || return
	"$program" bearer ana practice mikomo >/dev/full 2>"$err"
	code=$?
	[ "$code" = 6 ] && on_stderr . || { echo "it ends with $code"; return 1; }
	"$program" show ana practice mikomo >/dev/full 2>"$err"
	code=$?
	[ "$code" != 0 ] || { echo 'show says that all is well'; return 1; }
}

refresh_sends_the_refresh_token_once() {
	local before after
	new_world
	link_up ana practice mikomo || return 1
	before=$("$program" bearer ana practice mikomo)
	ctl_exits 0 refresh ana practice mikomo && silent "$err" && line generation_before 1 && line generation 2 &&
		expect_arrived 1 token refresh_token &&
		ctl_exits 0 refresh ana practice mikomo --json && json '.generation_before == 2 and .generation == 3' &&
		expect_arrived 2 token refresh_token && no_token_arrived_twice || return 1
	after=$("$program" bearer ana practice mikomo)
	[ "$before" != "$after" ] && accepted_by_the_bank "$after" && expect_arrived 2 token refresh_token
}

# Who comes while another refresh is under way may be told so.
refreshes_at_the_same_moment_send_no_token_twice() {
	local i pids=() ended good=0
	new_world
	link_up ana practice mikomo || return 1
	for i in 1 2 3 4; do
		"$program" refresh ana practice mikomo >"$world/out$i" 2>"$world/err$i" &
		pids+=($!)
	done
	for i in 0 1 2 3; do
		wait "${pids[i]}"
		ended=$?
		case $ended in
		0) good=$((good + 1)) ;;
		4) ;;
		*) echo "one ends with $ended: $(cat "$world/err$((i + 1))")"; return 1 ;;
		esac
	done
	[ "$good" -ge 1 ] || { echo 'no refresh was good'; return 1; }
	no_token_arrived_twice && ctl_exits 0 show ana practice mikomo && line state linked
}

# The bank answers a second after the command's time is up.
an_answer_that_comes_too_late_for_the_command_is_kept() {
	new_world
	link_up ana practice mikomo || return 1
	bank_says '{"queue": [{"endpoint": "token", "do": {"delay_ms": 2000}}]}'
	ctl --timeout 1 refresh ana practice mikomo --json
	[ "$code" = 4 ] || [ "$code" = 0 ] || { explain "it ends with $code"; return 1; }
	ctl_exits 0 show ana practice mikomo --json && json '.generation == 2 and .state == "linked" and .claim == null' &&
		expect_arrived 1 token refresh_token && ctl_exits 0 refresh ana practice mikomo && no_token_arrived_twice
}

a_provider_that_is_down_ends_with_4_and_costs_nothing() {
	new_world
	link_up ana practice mikomo || return 1
	bank_says '{"queue": [{"endpoint": "token", "times": -1, "do": {"status": 503, "body": "works"}}]}'
	ctl_exits 4 refresh ana practice mikomo --json && json '.error.status == "PROVIDER_DOWN" and .error.http_status == 503' &&
		ctl_exits 0 bearer ana practice mikomo
}

a_consent_that_was_taken_back_ends_with_3() {
	new_world
	link_up ana practice mikomo || return 1
	bank_says '{"kill_grant": "all"}'
	ctl_exits 3 refresh ana practice mikomo --json && json '.error.status == "RELINK_REQUIRED"' &&
		ctl_exits 0 show ana practice mikomo && line state relink_required && line reason revoked
}

a_client_that_the_provider_refuses_ends_with_5() {
	new_world
	link_up ana practice mikomo || return 1
	bank_says '{"set": {"clients": {"test-client": "another"}}}'
	ctl_exits 5 refresh ana practice mikomo --json && json '.error.status == "CLIENT_REFUSED" and .error.code == 401'
}

# ---- unlink and forget ------------------------------------------------------------------------------------

alive() { # subject
	ledger "[.grants[] | select(.alive and .sub == \"$1\")] | length"
}

unlink_ends_the_link_here_and_at_the_bank() {
	three_links || return 1
	ctl_exits 0 unlink ana practice mikomo && line revocation confirmed && ctl_exits 3 show ana practice mikomo &&
		ctl_exits 0 unlink ana plain --json && json '.revocation == "confirmed"' || return 1
	[ "$(alive sub-ana-practice)$(alive sub-ana-plain)$(alive sub-ben-practice)" = 001 ] || { ledger .grants; return 1; }
	ctl_exits 0 list --json && json '[.links[] | .user] == ["ben"]'
}

forget_ends_all_links_and_flows_of_a_user() {
	local callback
	three_links || return 1
	paste_start ana practice other || return 1
	callback=$(browse "$consent_url")
	ctl_exits 0 forget ana --json && json '.links | length == 2' || return 1
	[ "$(alive sub-ana-practice)$(alive sub-ana-plain)$(alive sub-ben-practice)" = 001 ] || { ledger .grants; return 1; }
	bank_says '{"reset_ledger": true}'
	paste_end "$callback"
	[ "$code" != 0 ] || { echo 'the flow lives on'; return 1; }
	expect_arrived 0 token && ctl_exits 0 list ana --json && json '.links == []' &&
		ctl_exits 0 list --json && json '[.links[] | .user] == ["ben"]' &&
		ctl_exits 0 forget ana && ctl_exits 0 forget nobody
}

forget_says_what_the_bank_could_not_be_told() {
	three_links || return 1
	bank_says '{"queue": [{"endpoint": "revoke", "times": -1, "do": {"status": 503, "body": "later"}}]}'
	ctl forget ana --json
	grep -q pending "$out" || { explain 'nothing is pending'; return 1; }
	ctl_exits 0 list ana --json && json '[.links[] | select(.state != "unlinking")] == []'
}

# ---- import -------------------------------------------------------------------------------------------------

# A refresh token as another program would have got it; on stdout.
harvest() { # subject
	local back
	bank_says "{\"set\": {\"sub\": \"$1\"}}"
	back=$(browse "$bank/auth?response_type=code&client_id=test-client&scope=openid+offline_access&state=s&connector=mikomo&redirect_uri=https%3A%2F%2Fapp.example%2Fcallback")
	back=${back#*code=}
	curl -sS --cacert "$scratch/bank.pem" -u test-client:test-secret -d grant_type=authorization_code \
		-d "code=${back%%&*}" --data-urlencode redirect_uri=https://app.example/callback "$bank/token" | jq -r .refresh_token
}

token_file() { # users
	local user
	(
		umask 077
		for user in "$@"; do
			printf '{"user": "%s", "institution": "mikomo", "refresh_token": "%s"}\n' "$user" "$(harvest "sub-$user")"
		done >"$world/tokens.jsonl"
	)
}

import_makes_links_of_refresh_tokens() {
	new_world
	token_file ana ben chris
	bank_says '{"reset_ledger": true}'
	ctl_exits 0 import practice "$world/tokens.jsonl" && on_stderr 3 || return 1
	ctl_exits 0 list --json && json '[.links[] | .user] | sort == ["ana", "ben", "chris"]' || return 1
	ctl_exits 0 bearer ana practice mikomo && accepted_by_the_bank "$(cat "$out")" && no_token_arrived_twice &&
		ctl_exits 0 show ana practice mikomo && line state linked
}

import_reads_stdin() {
	new_world
	token_file ana
	ctl_exits 0 import practice - --json <"$world/tokens.jsonl" && ctl_exits 0 show ana practice mikomo || return 1
	token_file ben
	ctl_exits 0 import practice <"$world/tokens.jsonl" && ctl_exits 0 show ben practice mikomo
}

import_can_be_run_again() {
	new_world
	token_file ana ben
	ctl_exits 0 import practice "$world/tokens.jsonl" || return 1
	token_file ana chris
	ctl_exits 0 import practice "$world/tokens.jsonl" --json &&
		json '.imported == 1 and .existing == 1 and .failed == 0' &&
		ctl_exits 0 list --json && json '.links | length == 3' && no_token_arrived_twice
}

import_names_the_lines_that_are_bad_and_takes_the_others() {
	local file
	new_world
	token_file ana ben
	file=$world/tokens.jsonl
	{
		head -n 1 "$file"
		echo 'no JSON at all'
		echo '{"user": "dora", "institution": "mikomo"}'
		echo '{"institution": "mikomo", "refresh_token": "mark-4"}'
		echo '["dora", "mark-5"]'
		echo '{"user": "dora", "refresh_token": "mark-6"}'
		echo '{"user": 7, "institution": "mikomo", "refresh_token": "mark-7"}'
		echo '{"user": "dora", "institution": "mikomo", "refresh_token": "mark-8", "colour": "blue"}'
		tail -n 1 "$file"
		head -n 1 "$file"
	} >"$world/mixed.jsonl"
	chmod 0600 "$world/mixed.jsonl"
	ctl_exits 1 import practice "$world/mixed.jsonl" --json &&
		json '[.problems[].line] == [2, 3, 4, 5, 6, 7, 8, 10] and .imported == 2 and .existing == 0 and .failed == 8' || return 1
	! grep -q 'mark-' "$out" "$err" || { explain 'a token is shown'; return 1; }
	ctl_exits 1 import practice "$world/mixed.jsonl" && line imported 0 && line existing 2 && line line 2 && line line 10 &&
		ctl_exits 0 list --json && json '[.links[] | .user] | sort == ["ana", "ben"]' && no_token_arrived_twice
}

import_refuses_a_file_that_others_may_read() {
	new_world
	token_file ana
	chmod 0644 "$world/tokens.jsonl"
	ctl import practice "$world/tokens.jsonl"
	[ "$code" = 5 ] || [ "$code" = 2 ] || { explain "it ends with $code"; return 1; }
	on_stderr tokens.jsonl && ctl_exits 0 list --json && json '.links == []' || return 1
	ctl import practice "$world/missing.jsonl"
	[ "$code" = 5 ] || [ "$code" = 2 ] || { explain "without a file it ends with $code"; return 1; }
	on_stderr missing.jsonl
}

import_tells_how_far_it_is() {
	new_world
	token_file ana
	for number in $(seq 1 300); do
		printf '{"user": "user-%d", "institution": "mikomo", "refresh_token": "made-up-%d"}\n' "$number" "$number"
	done >>"$world/tokens.jsonl"
	ctl --timeout 120 import practice "$world/tokens.jsonl"
	on_stderr '301' && ctl_exits 0 show ana practice mikomo
}

# ---- pause and resume -----------------------------------------------------------------------------------------

pause_keeps_everything_from_the_provider_until_resume() {
	new_world
	link_up ana practice mikomo && link_up ana plain || return 1
	bank_says '{"reset_ledger": true}'
	ctl_exits 0 pause practice && ctl_exits 0 pause practice --json && json '. == {"provider": "practice", "paused": true}' &&
		ctl_exits 0 check --json &&
		json '.providers | map({(.name): .paused}) | add == {"practice": true, "plain": false}' &&
		ctl_exits 4 refresh ana practice mikomo --json && json '.error.status == "PROVIDER_DOWN"' &&
		ctl_exits 0 bearer ana practice mikomo && accepted_by_the_bank "$(cat "$out")" &&
		expect_arrived 0 token && ctl_exits 0 refresh ana plain && expect_arrived 1 token refresh_token &&
		ctl_exits 0 resume practice && ctl_exits 0 resume practice --json &&
		json '. == {"provider": "practice", "paused": false}' && ctl_exits 0 check --json &&
		json 'all(.providers[]; .paused == false)' && ctl_exits 0 refresh ana practice mikomo &&
		expect_arrived 2 token refresh_token
}

a_pause_holds_for_consents_and_revocations_too() {
	new_world
	link_up ana practice mikomo || return 1
	bank_says '{"reset_ledger": true}'
	ctl_exits 0 pause practice && ctl_exits 0 unlink ana practice mikomo && line revocation pending &&
		expect_arrived 0 revoke || return 1
	token_file ben
	bank_says '{"reset_ledger": true}'
	ctl import practice "$world/tokens.jsonl"
	expect_arrived 0 token
}

# ---- init -------------------------------------------------------------------------------------------------------

init_makes_a_config_that_is_good_at_once() {
	local etc
	new_world
	etc=$world/etc/acctlink
	unset ACCTLINK_CONFIG
	(
		umask 000
		printf 'test-secret\n' | "$program" -c "$etc/acctlink.conf" init --profile oidc --name practice \
			--issuer "$bank/" --client-id test-client --redirect-uri "$redirect" --store "$world/var" \
			--secret-stdin >"$out" 2>"$err"
	)
	keep_said
	grep -q "$etc/acctlink.conf" "$out" && grep -q "$etc/store.key" "$out" || { explain 'init does not say what it made'; return 1; }
	[ "$(stat -c %a "$etc/acctlink.conf" "$etc/store.key" "$etc/practice.secret" "$world/var" | tr '\n' ' ')" = \
		'644 600 600 700 ' ] || { ls -l "$etc" "$world"; return 1; }
	[ "$(tr -d '\n' <"$etc/practice.secret")" = test-secret ] && grep -qxE '[0-9a-f]{64}' "$etc/store.key" ||
		{ echo 'the secret or the key is not what it should be'; return 1; }
	! grep -q test-secret "$etc/acctlink.conf" || { echo 'the secret stands in the config'; return 1; }
	ctl_exits 0 -c "$etc/acctlink.conf" check && [ -z "$(find "$world/etc" "$world/var" -type f -perm /0022)" ]
}

init_makes_two_different_keys() {
	new_world
	ctl_exits 0 -c "$world/a/acctlink.conf" init --store "$world/a/store" &&
		ctl_exits 0 -c "$world/b/acctlink.conf" init --store "$world/b/store" --json && json '.key | test("/b/store.key$")' &&
		! cmp -s "$world/a/store.key" "$world/b/store.key"
}

init_overwrites_nothing_and_then_makes_nothing() {
	local name
	for name in acctlink.conf store.key akoya.secret; do
		new_world
		mkdir "$world/etc"
		echo mine >"$world/etc/$name"
		ctl_exits 5 -c "$world/etc/acctlink.conf" init --store "$world/var" && on_stderr "/etc/$name: ." || return 1
		[ "$(ls "$world/etc") $(cat "$world/etc/$name")" = "$name mine" ] || { echo "more than $name is there"; return 1; }
		[ ! -e "$world/var" ] || { echo 'the store was made'; return 1; }
	done
}

init_takes_no_value_that_would_break_out_of_the_config() {
	new_world
	ctl -c "$world/etc/acctlink.conf" init --store "$world/var" --client-id 'a"; log_level = "debug'
	case $code in
	0) ctl check -c "$world/etc/acctlink.conf"; ! grep -qxE '[[:space:]]*log_level.*' "$world/etc/acctlink.conf" ;;
	2 | 5) [ ! -e "$world/etc/acctlink.conf" ] ;;
	*) explain "it ends with $code"; return 1 ;;
	esac || return 1
	ctl -c "$world/etc2/acctlink.conf" init --store "$world/var2" --client-id $'a\nb'
	[ "$code" = 2 ] && [ ! -e "$world/etc2" ] || { explain "a line break: it ends with $code"; return 1; }
}

init_knows_its_profiles_and_owners() {
	new_world
	ctl_exits 2 -c "$world/etc/acctlink.conf" init --store "$world/var" --profile nonsense && [ ! -e "$world/etc" ] || return 1
	ctl -c "$world/etc/acctlink.conf" init --store "$world/var" --owner no-such-user
	[ "$code" != 0 ] && on_stderr no-such-user && [ ! -e "$world/etc" ]
}

every_profile_of_init_makes_a_config_that_can_be_read() {
	local profile
	new_world
	for profile in akoya oidc oauth2; do
		ctl_exits 0 -c "$world/$profile/acctlink.conf" init --profile "$profile" --store "$world/$profile/store" || return 1
		ctl check -c "$world/$profile/acctlink.conf"
		[ "$code" = 0 ] || [ "$code" = 5 ] || { explain "$profile: check ends with $code"; return 1; }
		! grep -q 'syntax' "$err" || { explain "$profile"; return 1; }
	done
}

# ---- owners ---------------------------------------------------------------------------------------------------------

# The service's user; 77 if there is no way to be it.
as_service() { # command
	setpriv --reuid=nobody --regid=nogroup --clear-groups "$@"
}

two_users_or_skip() {
	[ "$(id -u)" = 0 ] || skip 'needs root'  || return
	command -v setpriv >/dev/null || skip 'setpriv(1) is not installed' || return
	as_service test -x "$program" && as_service test -r "$scratch/bank.pem" ||
		skip 'nobody can not reach the built program or the folder for temporary files'
}

nothing_is_out_of_the_services_reach() { # folder
	local found
	found=$(find "$1" ! -user nobody -o ! -type d -perm /0077 ! -name '*.conf' ! -name '*.pem')
	[ -z "$found" ] || { find "$1" -exec ls -ld {} +; return 1; }
}

init_makes_all_for_its_owner() {
	two_users_or_skip || return
	new_world
	unset ACCTLINK_CONFIG
	ctl_exits 0 -c "$world/etc/acctlink.conf" init --owner nobody --profile oidc --name practice --issuer "$bank/" \
		--client-id test-client --redirect-uri "$redirect" --store "$world/var" --secret-stdin <<<test-secret || return 1
	nothing_is_out_of_the_services_reach "$world/var" || return 1
	[ "$(stat -c '%U %a' "$world/etc/store.key" "$world/etc/practice.secret" | sort -u)" = 'nobody 600' ] ||
		{ ls -l "$world/etc"; return 1; }
	as_service "$program" -c "$world/etc/acctlink.conf" check >"$out" 2>"$err" || { explain 'the service can not use it'; return 1; }
	ctl_exits 0 -c "$world/etc/acctlink.conf" check && nothing_is_out_of_the_services_reach "$world/var"
}

init_for_another_owner_needs_root() {
	two_users_or_skip || return
	new_world
	mkdir -m 0777 "$world/open"
	as_service "$program" -c "$world/open/etc/acctlink.conf" init --owner www-data --store "$world/open/var" >"$out" 2>"$err"
	code=$?
	[ "$code" = 5 ] || [ "$code" = 2 ] || { explain "it ends with $code"; return 1; }
	on_stderr root && [ ! -e "$world/open/etc" ]
}

root_on_the_services_live_store_leaves_nothing_that_it_can_not_use() {
	two_users_or_skip || return
	new_world
	chown -R nobody:nogroup "$world"
	as_service "$program" list ana >"$out" 2>"$err" || { explain 'the service can not begin'; return 1; }
	umask 000
	link_up ana practice mikomo && link_up ana plain && link_up ben practice mikomo &&
		ctl_exits 0 refresh ana practice mikomo && ctl_exits 0 bearer ana practice mikomo &&
		ctl_exits 0 pause plain && ctl_exits 0 resume plain && ctl_exits 0 check --online &&
		ctl_exits 0 unlink ana plain && ctl_exits 0 forget ben && ctl_exits 0 list || return 1
	umask 022
	nothing_is_out_of_the_services_reach "$world/store" || return 1
	as_service "$program" refresh ana practice mikomo >"$out" 2>"$err" || { explain 'the service can not go on'; return 1; }
	line generation 3
}

root_may_be_the_first_to_use_the_services_store() {
	two_users_or_skip || return
	new_world
	chown -R nobody:nogroup "$world"
	link_up ana practice mikomo || return 1
	nothing_is_out_of_the_services_reach "$world/store" || return 1
	as_service "$program" refresh ana practice mikomo >"$out" 2>"$err" || { explain 'the service can not go on'; return 1; }
}

# ---- the man page --------------------------------------------------------------

examples() {
	sed -n '/^\.Sh EXAMPLES/,/^\.Sh SEE ALSO/p' "$page" |
		awk '/^\.Bd -literal/ { inside = 1; next } /^\.Ed/ { inside = 0 } inside { gsub(/\\e/, "\\"); sub(/^\$ /, ""); print }'
}

every_command_has_an_example() {
	local command
	for command in $commands; do
		examples | grep -qE "(^|\\| )acctlinkctl $command( |\$)" || { echo "$command has no example"; return 1; }
	done
}

the_page_and_the_program_have_the_same_commands_and_options() {
	local wanted
	wanted=$("$program" --help | sed -nE 's/^  ([a-z]+) .*/\1/p' | sort)
	[ "$(sed -nE 's/^\.It Cm (init|[a-z]+)$/\1/p' "$page" | sort -u)" = "$wanted" ] ||
		{ diff <(echo "$wanted") <(sed -nE 's/^\.It Cm ([a-z]+)$/\1/p' "$page" | sort -u); return 1; }
	wanted=$("$program" --help | grep -oE -e '--[a-z-]+' | sort -u)
	diff <(echo "$wanted") <(sed -nE 's/^\.It Fl (. , )?-([a-z-]+).*/--\2/p' "$page" | sort -u)
}

the_page_has_the_exit_codes_of_the_program() {
	diff <(sed -nE 's/^\tCTL_[A-Z]+ = ([0-9]+).*/\1/p' "$srcdir/tools/acctlinkctl/ctl.h" | sort -u) \
		<(sed -n '/^\.Sh EXIT STATUS/,/^\.Sh EX/p' "$page" | sed -nE 's/^\.It ([0-9])$/\1/p' | sort -u)
}

# The line as it stands, but for the bank's address; init also gets a folder of its own.
run_example() { # line
	local line=${1//https:\/\/bank.example/$bank}
	case $line in
	*' init '*)
		if [[ $line = *--owner* ]] && ! getent passwd www-data >/dev/null; then
			return 0
		elif [[ $line = *--owner* ]] && [ "$(id -u)" != 0 ]; then
			return 0
		fi
		rm -rf "$world/new"
		ACCTLINK_CONFIG=$world/new/acctlink.conf bash -c "${line/ init / init --store $world/new/store }" >"$out" 2>"$err" ||
			{ explain "$line"; return 1; }
		if [[ $line = *--secret-stdin* ]]; then
			ctl_exits 0 -c "$world/new/acctlink.conf" check
		fi
		return
		;;
	*' link --paste '*)
		# shellcheck disable=SC2086 # one word an argument
		paste_start ${line#* link --paste } && paste_end "$(browse "$consent_url")" && [ "$code" = 0 ]
		return
		;;
	*' link '*)
		# shellcheck disable=SC2086 # one word an argument
		listen_start ${line#* link } && curl -sS -o /dev/null "$back" && listen_end 0
		return
		;;
	*' import '*) token_file ana ben ;;
	esac
	bash -o pipefail -c "$line" >"$out" 2>"$err" || { explain "$line"; return 1; }
	case $line in
	*' bearer '*) jq -e '.accounts | length > 0' "$out" >/dev/null || { explain "$line"; return 1; } ;;
	esac
}

every_example_of_the_page_runs() {
	local line count=0
	new_world
	login_of ana practice
	mkdir "$world/bin"
	ln -s "$program" "$world/bin/acctlinkctl"
	printf '#!/bin/sh\necho test-secret\n' >"$world/bin/pass"
	chmod +x "$world/bin/pass"
	cd "$world" || return 1
	while IFS= read -r line <&3; do
		count=$((count + 1))
		PATH=$world/bin:$PATH CURL_CA_BUNDLE=$world/bank.pem run_example "$line" || { echo "the example: $line"; return 1; }
	done 3< <(examples)
	[ "$count" -ge 12 ] || { echo "only $count examples were found"; return 1; }
}

# ---- secrets -----------------------------------------------------------------------

# A refresh that hangs at the bank is looked at from outside.
no_secret_stands_in_argv_or_environment_of_a_process() {
	local pid callback secret
	[ -r /proc/self/cmdline ] || skip 'there is no /proc here' || return
	new_world
	login_of ana practice
	paste_start ana practice mikomo || return 1
	callback=$(browse "$consent_url")
	bank_says '{"queue": [{"endpoint": "token", "do": {"hold": "a"}}, {"endpoint": "token", "do": {"hold": "b"}}]}'
	printf '%s\n' "$callback" >&9
	exec 9>&-
	wait_until 30 held a || return 1
	tr '\0' '\n' <"/proc/$link_pid/cmdline" >"$world/seen"
	tr '\0' '\n' <"/proc/$link_pid/environ" >>"$world/seen"
	bank_says '{"release": "a"}'
	wait "$link_pid" || { explain 'link fails'; return 1; }
	"$program" refresh ana practice mikomo >"$out" 2>"$err" &
	pid=$!
	wait_until 30 held b || return 1
	tr '\0' '\n' <"/proc/$pid/cmdline" >>"$world/seen"
	tr '\0' '\n' <"/proc/$pid/environ" >>"$world/seen"
	bank_says '{"release": "b"}'
	wait "$pid" || { explain 'refresh fails'; return 1; }
	grep -qx refresh "$world/seen" || { echo 'nothing was seen'; return 1; }
	secrets >"$world/secrets"
	while IFS= read -r secret; do
		! grep -qF -e "$secret" "$world/seen" || { echo "argv or the environment holds a secret"; return 1; }
	done <"$world/secrets"
}

held() { # name
	[ "$(curl -sS "$admin/control/held?name=$1" | jq -r .held)" -ge 1 ]
}

# The client's secret, the keys of all stores, every code and token that the bank ever gave.
secrets() {
	local hash
	echo test-secret
	find "$scratch" -name store.key -exec cat {} + | tr -d '\n' | fold -w 64
	echo
	for hash in $(ledger '.tokens[].hash'); do
		curl -sS -f "$admin/ledger/raw?hash=$hash"
		echo
	done
}

# The last test: it looks at what all others made the program say.
nothing_but_bearer_has_ever_written_a_secret() {
	local count
	secrets | sed '/^$/d' | sort -u >"$scratch/secrets"
	count=$(wc -l <"$scratch/secrets")
	[ "$count" -ge 20 ] && [ -s "$scratch/said" ] || { echo "only $count secrets are known"; return 1; }
	! grep -qF -f "$scratch/secrets" "$scratch/said" || {
		grep -nF -f "$scratch/secrets" "$scratch/said" | cut -c 1-200 | head -n 5
		return 1
	}
}

# --------------------------------------------------------------------------------------

for needed in curl jq openssl; do
	command -v "$needed" >/dev/null || bail_out "$needed is not installed"
done
for needed in "$program" "$practice"; do
	[ -x "$needed" ] || bail_out "$needed is missing"
done
tests='help_and_version_are_told_on_stdout
a_wrong_command_line_ends_with_2_and_says_why_on_stderr
no_option_takes_a_secret
with_json_a_wrong_command_line_is_an_object_as_well
an_option_of_another_command_is_refused
options_may_stand_anywhere
a_user_whose_name_begins_with_a_hyphen_is_named_after_two
the_config_of_the_line_wins_over_the_one_of_the_environment
every_command_says_with_json_that_the_config_is_missing
check_lists_the_providers_of_a_good_config
check_names_file_and_line_of_a_fault
check_names_a_key_or_secret_that_others_may_read
check_finds_a_key_that_is_not_the_stores
check_online_is_good_and_spends_nothing
check_online_finds_a_wrong_secret
check_online_finds_keys_that_can_not_be_fetched
check_online_finds_keys_that_are_none
check_online_finds_metadata_that_can_not_be_fetched
check_online_finds_another_issuer
check_online_finds_a_certificate_that_is_not_trusted
check_online_goes_on_with_the_next_provider
link_takes_the_address_that_is_pasted
link_renews_a_link_that_is_there
link_with_json_writes_the_address_to_stderr
link_listens_for_the_browser_on_the_loopback_redirect
link_takes_a_form_that_is_posted
link_ends_with_3_if_the_user_says_no
link_refuses_a_forged_answer
link_gives_up_when_the_time_is_up
link_says_that_its_port_is_taken
link_uses_the_redirect_uri_that_is_asked_for
list_shows_the_links_of_a_user_or_of_all
list_keeps_to_its_filters
show_tells_all_but_the_secrets
a_link_that_is_not_there_ends_with_3
an_unknown_provider_ends_with_2
bearer_writes_a_bearer_to_a_pipe_and_nothing_else
a_terminal_gets_the_bearer_only_with_show
the_config_can_forbid_bearer
a_bearer_that_can_not_be_written_is_no_success
refresh_sends_the_refresh_token_once
refreshes_at_the_same_moment_send_no_token_twice
an_answer_that_comes_too_late_for_the_command_is_kept
a_provider_that_is_down_ends_with_4_and_costs_nothing
a_consent_that_was_taken_back_ends_with_3
a_client_that_the_provider_refuses_ends_with_5
unlink_ends_the_link_here_and_at_the_bank
forget_ends_all_links_and_flows_of_a_user
forget_says_what_the_bank_could_not_be_told
import_makes_links_of_refresh_tokens
import_reads_stdin
import_can_be_run_again
import_names_the_lines_that_are_bad_and_takes_the_others
import_refuses_a_file_that_others_may_read
import_tells_how_far_it_is
pause_keeps_everything_from_the_provider_until_resume
a_pause_holds_for_consents_and_revocations_too
init_makes_a_config_that_is_good_at_once
init_makes_two_different_keys
init_overwrites_nothing_and_then_makes_nothing
init_takes_no_value_that_would_break_out_of_the_config
init_knows_its_profiles_and_owners
every_profile_of_init_makes_a_config_that_can_be_read
init_makes_all_for_its_owner
init_for_another_owner_needs_root
root_on_the_services_live_store_leaves_nothing_that_it_can_not_use
root_may_be_the_first_to_use_the_services_store
every_command_has_an_example
the_page_and_the_program_have_the_same_commands_and_options
the_page_has_the_exit_codes_of_the_program
every_example_of_the_page_runs
no_secret_stands_in_argv_or_environment_of_a_process
nothing_but_bearer_has_ever_written_a_secret'
[ $# -eq 0 ] || tests=$(printf '%s\n' "$@")

bank_start
run_tests "$tests" run_test

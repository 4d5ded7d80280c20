#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The odd days of acctlinkctl link and init: callbacks of strangers, a provider that is slow or
# down while the browser waits, addresses as people paste them, values that make no good
# configuration. Prints TAP. Needs curl, jq, openssl. Given names of tests, it runs those only.
# shellcheck disable=SC2015 # what follows || ends a test
set -u

here=$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/cli/world.sh
. "$here/world.sh"

# ---- link: the browser ------------------------------------------------------------------------

# Starts a link that listens; the browser has consented and is sent to $back.
listen_start() { # arguments of link
	local told=$out
	case " $* " in *' --json '*) told=$err ;; esac
	: >"$out"
	: >"$err"
	"$program" link "$@" >"$out" 2>"$err" &
	link_pid=$!
	consent_url=$(wait_until 30 url_in "$told")
	[ -n "$consent_url" ] || { explain 'link writes no address'; return 1; }
	back=$(browse "$consent_url")
}

listen_end() { # exit code
	wait "$link_pid"
	code=$?
	keep_said
	[ "$code" = "$1" ] || { explain "link ends with $code, not $1"; return 1; }
}

visits() { # HTTP status, arguments of curl
	local wanted=$1 got
	shift
	got=$(curl -sS -o "$scratch/page" -w '%{http_code}' "$@")
	[ "$got" = "$wanted" ] || { echo "the browser gets $got, not $wanted, for $*"; return 1; }
}

a_strangers_callback_does_not_end_the_wait() {
	new_world
	login_of ana practice && listen_start ana practice mikomo || return 1
	visits 400 "$redirect?code=made-up&state=made-up" && grep -q 'was not linked' "$scratch/page" &&
		visits 400 "$redirect?error=access_denied&state=made-up" && visits 400 "$redirect?nonsense" &&
		visits 400 -d 'code=made-up&state=made-up' "$redirect" && expect_arrived 0 token &&
		on_stderr 'a callback was refused' && visits 200 "$back" && listen_end 0 && line epoch 1 &&
		expect_arrived 1 token authorization_code
}

a_page_that_knows_the_port_by_another_name_gets_nothing() {
	new_world
	login_of ana practice && listen_start ana practice mikomo || return 1
	visits 400 -H 'Host: evil.example' "$back" && expect_arrived 0 token && visits 200 "$back" && listen_end 0
}

a_port_that_is_taken_is_told_before_a_consent_is_begun() {
	new_world
	login_of ana practice && listen_start ana practice mikomo || return 1
	ctl_exits 5 link ben practice mikomo && silent "$out" && on_stderr "$redirect" && on_stderr -- --paste || return 1
	visits 200 "$back"
	wait "$link_pid"
}

a_slow_exchange_is_waited_for_and_sent_once() {
	new_world
	login_of ana practice || return 1
	bank_says '{"queue": [{"endpoint": "token", "do": {"delay_ms": 6500}}]}' && listen_start ana practice mikomo || return 1
	visits 200 "$back" && listen_end 0 && line generation 1 && expect_arrived 1 token && no_token_arrived_twice
}

a_provider_that_is_down_for_a_moment_costs_no_consent() {
	new_world
	login_of ana practice && listen_start ana practice mikomo && bank_says '{"down": true}' || return 1
	curl -sS -o "$scratch/page" -w '%{http_code}' "$back" >"$scratch/status" &
	wait_until 30 grep -q 'trying again' "$err" && bank_says '{"down": false}' && listen_end 0 &&
		wait_until 10 grep -q 200 "$scratch/status" && no_token_arrived_twice
}

an_exchange_that_takes_too_long_ends_with_4_and_the_link_stands() {
	new_world
	login_of ana practice || return 1
	bank_says '{"queue": [{"endpoint": "token", "do": {"delay_ms": 3000}}]}' &&
		listen_start ana practice mikomo --timeout 2 || return 1
	visits 400 "$back" && listen_end 4 && ctl_exits 0 show ana practice mikomo && line generation 1 &&
		no_token_arrived_twice
}

a_refused_client_ends_with_5_and_the_browser_is_told() {
	new_world
	bank_says '{"set": {"clients": {"test-client": "another-secret"}}}' && listen_start ana practice mikomo || return 1
	visits 400 "$back" && listen_end 5
}

what_is_odd_about_a_link_is_said() {
	new_world
	login_of ana practice || return 1
	bank_says '{"set": {"scope": "openid"}}' && listen_start ana practice mikomo --json || return 1
	visits 200 "$back" && listen_end 0 && bank_says '{"set": {"scope": null}}' &&
		json '.scope_reduced == true and (has("renewed") | not) and .epoch == 1'
}

# ---- link: by hand --------------------------------------------------------------------------------

# A whole consent whose address is pasted in another shape; ends with the code.
pasted() { # exit code, sed expression
	new_world
	login_of ana practice && paste_start ana practice mikomo || return 1
	paste_end "$(browse "$consent_url" | sed -e "$2")"
	[ "$code" = "$1" ] || { explain "$2: link ends with $code, not $1"; return 1; }
}

an_address_may_be_pasted_as_people_do() {
	pasted 0 's/.*?//' && pasted 0 's/^/  	/; s/$/  /' && pasted 0 's/$/\r/' && pasted 0 's/$/#_=_/' && pasted 0 's/^[^?]*//'
}

what_is_no_answer_of_the_provider_ends_with_2() {
	pasted 2 's/.*//' && on_stderr stdin && pasted 2 's/?.*//' && pasted 2 's/?.*/?/' && pasted 2 's/.*/yes/' &&
		pasted 2 's/?/#?/' && pasted 2 's/code=[^&]*&*//' && expect_arrived 0 token
}

a_line_without_end_is_refused() {
	new_world
	paste_start ana practice mikomo || return 1
	head -c 70000 /dev/zero | tr '\0' a >&9
	paste_end ''
	[ "$code" = 2 ] && on_stderr 'too long'
}

an_end_of_input_ends_with_2() {
	new_world
	ctl_exits 2 link ana practice mikomo --paste && on_stderr stdin
}

nobody_at_the_keyboard_ends_with_4() {
	new_world
	paste_start ana practice mikomo --timeout 1 || return 1
	wait "$link_pid"
	code=$?
	exec 9>&-
	[ "$code" = 4 ] || { explain "link ends with $code"; return 1; }
}

a_form_can_not_be_pasted() {
	new_world
	sed -i 's/^\tplain = {/&\n\t\tresponse_mode = "form_post";/' "$ACCTLINK_CONFIG"
	ctl_exits 5 link ana plain && on_stderr response_mode && silent "$out"
}

an_unknown_provider_ends_with_2() {
	new_world
	ctl_exits 2 link ana nobody && on_stderr nobody && expect_arrived 0 discovery
}

# ---- init ---------------------------------------------------------------------------------------------

values_that_make_no_good_config_leave_nothing_behind() {
	local values
	new_world
	mkdir "$world/new"
	while IFS= read -r values; do
		# shellcheck disable=SC2086 # one word an argument
		ctl_exits 2 -c "$world/new/a/b/acctlink.conf" init --store "$world/new/c/d" $values && silent "$out" && on_stderr . &&
			[ -z "$(ls -A "$world/new")" ] || { find "$world/new"; return 1; }
	done <<-'TXT'
		--profile oidc --issuer http://login.bank.example
		--profile oidc --issuer https://login.bank.example/?tenant=1
		--profile oauth2 --issuer ftp://login.bank.example
		--redirect-uri http://app.example/callback
		--redirect-uri https://app.example/#callback
		--name Bank
		--name 1bank
		--name ../bank
		--client-id=
		--secret-stdin
	TXT
}

a_secret_that_can_not_be_one_is_refused_before_anything_is_made() {
	local secret
	new_world
	for secret in '\n' 'a\nb\n' 'a\0b' 'a\tb\n' "$(printf '%4097s' '' | tr ' ' a)"; do
		# shellcheck disable=SC2059 # the escapes are wanted
		ctl_exits 2 -c "$world/new/acctlink.conf" init --store "$world/var" --secret-stdin < <(printf "$secret") &&
			[ ! -e "$world/new" ] && [ ! -e "$world/var" ] || return 1
	done
}

the_umask_takes_nothing_away() {
	new_world
	(umask 0777 && "$program" -c "$world/etc/acctlink.conf" init --store "$world/a/b" >"$out" 2>"$err")
	[ "$(stat -c %a "$world/etc" "$world/etc/acctlink.conf" "$world/etc/store.key" "$world/etc/akoya.secret" "$world/a" \
		"$world/a/b" | tr '\n' ' ')" = '755 644 600 600 755 700 ' ] || { find "$world" -ls; return 1; }
}

a_store_of_another_key_is_left_alone() {
	new_world
	: >"$world/store/store.db"
	ctl_exits 5 -c "$world/etc/acctlink.conf" init --store "$world/store" && on_stderr store.db && [ ! -e "$world/etc" ]
}

a_store_folder_that_others_may_open_is_refused() {
	new_world
	chmod 0755 "$world/store"
	ctl_exits 5 -c "$world/etc/acctlink.conf" init --store "$world/store" && on_stderr 0755 && [ ! -e "$world/etc" ] &&
		[ "$(stat -c %a "$world/store")" = 755 ]
}

a_link_in_the_place_of_a_file_is_not_followed() {
	local name
	for name in acctlink.conf store.key akoya.secret; do
		new_world
		mkdir "$world/etc"
		ln -s "$world/elsewhere" "$world/etc/$name"
		ctl_exits 5 -c "$world/etc/acctlink.conf" init --store "$world/var" && on_stderr "$name" &&
			[ ! -e "$world/elsewhere" ] || return 1
	done
}

odd_characters_come_through_the_config() {
	new_world
	ctl_exits 0 -c "$world/etc/acctlink.conf" init --store "$world/a \"b\" \\c" --client-id 'a "b" \c é' --secret-stdin \
		<<<'s"\x' && ctl_exits 0 -c "$world/etc/acctlink.conf" check && [ -e "$world/a \"b\" \\c/store.db" ]
}

init_works_where_it_stands() {
	new_world
	mkdir "$world/here"
	(cd "$world/here" && "$program" -c my.conf init --store var --name bank --profile oidc --secret-stdin) >"$out" 2>"$err" <<<s
	line config my.conf && line key store.key && line secret bank.secret && line store "$world/here/var" || return 1
	(cd / && "$program" -c "$world/here/my.conf" check) >"$out" 2>"$err" || { explain 'check does not find it'; return 1; }
}

tests='a_strangers_callback_does_not_end_the_wait
a_page_that_knows_the_port_by_another_name_gets_nothing
a_port_that_is_taken_is_told_before_a_consent_is_begun
a_slow_exchange_is_waited_for_and_sent_once
a_provider_that_is_down_for_a_moment_costs_no_consent
an_exchange_that_takes_too_long_ends_with_4_and_the_link_stands
a_refused_client_ends_with_5_and_the_browser_is_told
what_is_odd_about_a_link_is_said
an_address_may_be_pasted_as_people_do
what_is_no_answer_of_the_provider_ends_with_2
a_line_without_end_is_refused
an_end_of_input_ends_with_2
nobody_at_the_keyboard_ends_with_4
a_form_can_not_be_pasted
an_unknown_provider_ends_with_2
values_that_make_no_good_config_leave_nothing_behind
a_secret_that_can_not_be_one_is_refused_before_anything_is_made
the_umask_takes_nothing_away
a_store_of_another_key_is_left_alone
a_store_folder_that_others_may_open_is_refused
a_link_in_the_place_of_a_file_is_not_followed
odd_characters_come_through_the_config
init_works_where_it_stands'
[ $# -eq 0 ] || tests=$(printf '%s\n' "$@")

bank_start
run_tests "$tests" run_test

// SPDX-License-Identifier: MIT
// A small authorization server whose every answer can be scripted, with a
// ledger of what arrived. It has no login page: /auth consents at once. One
// process serves one test program; nothing is kept on disk. Never use it for
// anything but tests: it tells secrets to whoever asks.
//
// ENDPOINTS  /.well-known/openid-configuration (named "discovery" below), /jwks or
//   /keys ("jwks"), /auth, /token, /revoke, /userinfo or /api ("api": 200 if the
//   bearer is live, else 401 {"code":602}); anything else is "other", a 404 that
//   stands in the ledger, so it serves as a trap for redirects.
//
// CONTROL AND LEDGER are at the control server (common.mjs), a port of their own.
//   POST /control with a JSON object; an unknown word is a 400.
//   set       {…}: settings, see `defaults`; objects are merged, null instead of an
//             object brings its default back
//   queue     [ { endpoint, grant, token, times, do } ]: each entry treats the
//             next `times` (1; -1: all) requests that match. grant is
//             "authorization_code", "refresh_token" or absent; token is the
//             SHA-256 (hex) of the code or refresh token that is meant
//   clear     true, or an endpoint's name: forget queued entries
//   release   "name": let go what is held under it now
//   rotate_key   { alg, same_kid, keep_old }: sign with a new key
//   withdraw_key "kid": no longer in /jwks
//   kill_grant   number of a grant as in the ledger, or "all"
//   kill_bearers true: every bearer given out so far is refused by /api
//   close_idle   true: close idle connections
//   down         true: cut and refuse connections; false: listen again
//   reset_ledger true: forget requests and counts (grants stay)
// GET /control/held?name=N  ->  {"held":n}, the requests held now
//
// DO         what happens to one request. Without it: the ordinary answer.
//   status, headers {…}, json (any), body (text; {{access_token}}, {{id_token}},
//             {{refresh_token}} and {{sent}} are filled in): replace the answer
//   set       {…}: merged into a successful JSON answer, null deletes; at /auth
//             into the parameters of the redirect, a list gives duplicates
//   error, error_description   at /auth: a redirect with that error
//   spend     whether the code is used up or the refresh token rotated. Default:
//             yes, unless status >= 300, json, redirect, or a body without
//             {{refresh_token}} is given
//   id_token  { claims {…}, claims_in {name: seconds from now}, header {…}
//             (null deletes in both), alg, sign: "none" | "hs256_pem" |
//             "hs256_der" | "wrong_key" | "broken", raw: text, suffix: text }
//   delay_ms, hold: "name"  after the tokens changed, before the answer leaves
//   hold_before: "name"     before anything is looked at
//   cut       "before_answer" | "after_headers" | "half_body" | "after_body"
//             (everything arrives, but the length promised more) |
//             {"after_bytes": n of the body}; the connection is then closed,
//             with reset:true by a TCP reset
//   drip      { bytes, every_ms }: the body in pieces
//   redirect  { status, location }
//   content_type, no_content_type, form (form-encoded), bom, suffix (text), close
//
// LEDGER
//   GET /ledger  ->  { requests: [ { n, at, endpoint, path, grant, token, client,
//       auth: "basic"|"post"|"none", authorization, content_type, accept, params
//       (secrets as SHA-256), remote_port, arrived_complete, status, error, spent,
//       reused, outcome: "pending"|"answered"|"cut"|"gone" } ],
//     grants: [ { n, sub, client, connector, scope, alive, generation, current,
//       spent: [] } ], counts: { endpoint: n }, arrivals: { token: n } }
//   GET /ledger/arrivals?token=SHA256  ->  {"count":n}, of whole token requests
//   GET /ledger/count?endpoint=E[&grant=G]  ->  {"count":n}, of whole requests
//   GET /ledger/raw?hash=SHA256        ->  the code or refresh token itself, text
//   GET /ledger/body?n=N               ->  the body of request n, text
// Tokens appear as SHA-256 in hex; "current" is a grant's refresh token.
import { createHash, randomBytes } from 'node:crypto';
import { setTimeout as nap } from 'node:timers/promises';
import { merge, readBody, sendJson, sendText, serve, server, setDown, sha256 } from './common.mjs';
import { algorithms, newKey, published, signJwt, withdrawKey } from './signing.mjs';

const defaults = {
	issuer_path: '',         // added to the issuer: "/" or "/tenant"
	sub: null,               // default: sub-<login_hint or connector or 1>
	rotation: 'strict',      // spent token: kills the grant. "dex": refused with Dex's
	                         // words, one grant per user and client. "none": never
	                         // rotated nor repeated. "same": repeated, not rotated
	reuse_window_ms: 0,      // a token spent so recently is accepted once more
	code_ttl: 300, access_ttl: 3600, id_token_ttl: 3600, refresh_ttl: 0, // seconds; 0: no end
	access_token: true,      // in the answers
	id_token: 'always',      // "first": not on refresh; "never"
	refresh_nonce: false,    // repeat the nonce in refreshed id_tokens
	alg: 'RS256',            // PS256, ES256, EdDSA
	claims: {},              // merged into every id_token
	scope: null,             // granted instead of what was asked
	iss_parameter: false,    // RFC 9207
	auth: { authorization_code: 'any', refresh_token: 'any', revoke: 'any' },
	                         // any, basic, basic_raw (not form-decoded), post, none
	clients: { 'test-client': 'test-secret', 'public-client': null },
	burn_code_on_401: false,
	discovery: {},           // merged into the metadata, null deletes
	jwks_max_age: null,      // Cache-Control of /jwks, seconds
	jwks_without_kid: false,
	token_bytes: {},         // access, refresh, id: exact length (id: at most)
	clock_offset_ms: 0,
};
const doWords = new Set(['status', 'headers', 'json', 'body', 'set', 'error', 'error_description', 'spend',
	'id_token', 'delay_ms', 'hold', 'hold_before', 'cut', 'reset', 'drip', 'redirect', 'content_type',
	'no_content_type', 'form', 'bom', 'suffix', 'close']);
const idTokenWords = new Set(['claims', 'claims_in', 'header', 'alg', 'sign', 'raw', 'suffix']);
const entryWords = new Set(['endpoint', 'grant', 'token', 'times', 'do']);
const endpointNames = new Set(['discovery', 'jwks', 'auth', 'token', 'revoke', 'api', 'other']);
const secretParams = new Set(['code', 'refresh_token', 'token', 'client_secret', 'code_verifier']);

const settings = structuredClone(defaults);
const grants = [];
const codes = new Map();  // code -> { …, used, grant }
const refreshTokens = new Map(); // token -> grant
const bearers = new Map();       // token -> { grant, ends }
const clear = new Map();  // hash -> code or refresh token
const waiting = new Map();// name -> [resolve]
let queue = [];
let requests = [];
let counts = {};
let bodies = new Map();
let base = '';

const now = () => Date.now() + settings.clock_offset_ms;
const seconds = () => Math.floor(now() / 1000);
const issuer = () => base + settings.issuer_path;

// ---- tokens ---------------------------------------------------------------

function idToken(grant, access, first, how = {}) {
	const alg = how.alg ?? settings.alg;
	const claims = { iss: issuer(), sub: grant.sub, aud: grant.client, iat: seconds(),
		exp: seconds() + settings.id_token_ttl, auth_time: grant.authTime };

	if (how.raw !== undefined) return how.raw;
	if (grant.nonce !== undefined && (first || settings.refresh_nonce)) claims.nonce = grant.nonce;
	if (access !== undefined) {
		const digest = createHash(alg === 'EdDSA' ? 'sha512' : 'sha256').update(access).digest();
		claims.at_hash = digest.subarray(0, digest.length / 2).toString('base64url');
	}
	merge(merge(claims, settings.claims), how.claims);
	for (const [name, value] of Object.entries(how.claims_in ?? {})) claims[name] = seconds() + value;

	const wanted = settings.token_bytes.id ?? 0;
	const plain = signJwt(alg, claims, how);
	if (plain.length >= wanted) return plain;
	// Base64 grows by 4 for 3 bytes: start a little above, come down to the bound.
	for (let pad = Math.ceil((wanted - plain.length) * 3 / 4) + 2; pad > 0; pad--) {
		const token = signJwt(alg, { ...claims, pad: 'x'.repeat(pad) }, how);
		if (token.length <= wanted) return token;
	}
	return plain;
}

function newToken(kind, prefix, taken) {
	const bytes = settings.token_bytes[kind] ?? undefined;
	for (;;) {
		const token = bytes === undefined ? `${prefix}-${randomBytes(24).toString('base64url')}`
			: randomBytes(bytes).toString('base64url').slice(0, bytes);
		if (!taken.has(token)) return token;
	}
}

// ---- grants ---------------------------------------------------------------

function newRefreshToken(grant) {
	const token = newToken('refresh', 'rt', refreshTokens);
	refreshTokens.set(token, grant);
	clear.set(sha256(token), token);
	grant.current = token;
	grant.issuedAt = now();
}

function openGrant(code) {
	if (settings.rotation === 'dex') {
		for (const old of grants) if (old.sub === code.sub && old.client === code.client) old.alive = false;
	}
	const grant = { n: grants.length, sub: code.sub, client: code.client, connector: code.connector,
		scope: code.scope, nonce: code.nonce, authTime: code.authTime, alive: true, generation: 1, spent: [] };
	grants.push(grant);
	newRefreshToken(grant);
	return grant;
}

function tokenAnswer(grant, first, act, repeat) {
	const answer = { token_type: 'bearer', expires_in: settings.access_ttl, scope: settings.scope ?? grant.scope };
	if (settings.access_token) {
		answer.access_token = newToken('access', 'at', bearers);
		bearers.set(answer.access_token, { grant, ends: now() + settings.access_ttl * 1000 });
	}
	if (settings.id_token === 'always' || (first && settings.id_token === 'first')) {
		answer.id_token = idToken(grant, answer.access_token, first, act.id_token);
		bearers.set(answer.id_token, { grant, ends: now() + settings.id_token_ttl * 1000 });
	}
	if (repeat) answer.refresh_token = grant.current;
	return answer;
}

// ---- the endpoints: each returns { status, json | body, headers } ----------

const refusal = (status, error, description) => ({ status,
	json: description === undefined ? { error } : { error, error_description: description } });
const dex = () => settings.rotation === 'dex';
const claimed = 'Refresh token is invalid or has already been claimed by another client.';
const badCode = (why) => (dex() ? refusal(400, 'invalid_request', 'Invalid or expired code parameter.')
	: refusal(400, 'invalid_grant', why));
const badRefresh = () => (dex() ? refusal(400, 'invalid_request', claimed)
	: refusal(400, 'invalid_grant', 'the refresh token is not valid'));

function authenticate(rec, params, method) {
	let id = params.client_id;
	let secret = params.client_secret;

	if (rec.authorization?.startsWith('Basic ')) {
		if (secret !== undefined) return null; // RFC 6749, 2.3: one method per request
		const pair = Buffer.from(rec.authorization.slice(6), 'base64').toString('utf8');
		const halves = [pair.slice(0, pair.indexOf(':')), pair.slice(pair.indexOf(':') + 1)];
		const decode = (text) => new URLSearchParams(`x=${text.replaceAll('&', '%26')}`).get('x');
		[id, secret] = method === 'basic_raw' ? halves : halves.map(decode);
		rec.auth = 'basic';
	} else {
		rec.auth = secret === undefined ? 'none' : 'post';
	}
	const allowed = { any: ['basic', 'post'], basic: ['basic'], basic_raw: ['basic'], post: ['post'],
		none: ['none'] }[method];
	rec.client = id;
	if (!Object.hasOwn(settings.clients, id ?? '')) return null;
	if (settings.clients[id] === null) return rec.auth === 'none' ? id : null;
	if (!allowed.includes(rec.auth)) return null;
	return rec.auth === 'none' || settings.clients[id] === secret ? id : null;
}

function exchange(rec, params, client, act, spend) {
	const code = codes.get(params.code);

	if (!code || code.client !== client) return badCode('unknown code');
	if (code.used) {
		rec.reused = true;
		if (code.grant && !dex()) code.grant.alive = false; // RFC 6749, 4.1.2
		return badCode('the code was used before');
	}
	if (now() > code.ends) return badCode('the code is expired');
	if (params.redirect_uri !== code.redirectUri) {
		return refusal(400, dex() ? 'invalid_request' : 'invalid_grant',
			'redirect_uri did not match URI from initial request.');
	}
	if (code.challenge === undefined && params.code_verifier !== undefined) {
		return refusal(400, 'invalid_request', 'No PKCE flow started. Cannot check code_verifier.');
	}
	if (code.challenge !== undefined && createHash('sha256').update(params.code_verifier ?? '')
		.digest('base64url') !== code.challenge) return refusal(400, 'invalid_grant', 'Invalid code_verifier.');
	if (!spend) {
		const nobody = { ...code, n: -1, alive: false, current: 'rt-unspent' };
		return { status: 200, json: tokenAnswer(nobody, true, act, true) };
	}
	code.used = true;
	rec.spent = true;
	code.grant = openGrant(code);
	return { status: 200, json: tokenAnswer(code.grant, true, act, /\boffline_access\b/.test(code.scope)) };
}

function refresh(rec, params, client, act, spend) {
	const token = params.refresh_token;
	if (!token) return refusal(400, 'invalid_request', 'No refresh token in request.');
	const grant = refreshTokens.get(token);
	if (!grant || grant.client !== client || !grant.alive) return badRefresh();
	if (settings.refresh_ttl && now() > grant.issuedAt + settings.refresh_ttl * 1000) {
		return dex() ? refusal(400, 'invalid_request', 'Refresh token expired.') : badRefresh();
	}
	if (grant.current !== token) {
		const last = grant.spent.at(-1);
		const late = now() - grant.spent.find((old) => old.token === token).at > settings.reuse_window_ms;
		rec.reused = true;
		if (late || settings.reuse_window_ms === 0 || (dex() && last.token !== token)) {
			if (!dex()) grant.alive = false;
			return badRefresh();
		}
		if (dex()) return { status: 200, json: tokenAnswer(grant, false, act, true) };
	}
	if (spend) {
		rec.spent = true;
		grant.generation++;
		if (['strict', 'dex'].includes(settings.rotation)) {
			grant.spent.push({ token: grant.current, at: now() });
			newRefreshToken(grant);
		}
	}
	return { status: 200, json: tokenAnswer(grant, false, act, settings.rotation !== 'none') };
}

function token(rec, params, act, spend) {
	const code = params.code;
	if (rec.method !== 'POST') return refusal(400, 'invalid_request', 'method not allowed');
	if (!['authorization_code', 'refresh_token'].includes(rec.grant)) {
		return refusal(400, dex() ? 'invalid_grant' : 'unsupported_grant_type');
	}
	const client = authenticate(rec, params, settings.auth[rec.grant]);
	if (client === null) {
		if (settings.burn_code_on_401 && codes.has(code)) codes.get(code).used = true;
		return { ...refusal(401, 'invalid_client', 'Invalid client credentials.'),
			headers: rec.auth === 'basic' ? { 'www-authenticate': 'Basic realm="token"' } : {} };
	}
	return rec.grant === 'refresh_token' ? refresh(rec, params, client, act, spend)
		: exchange(rec, params, client, act, spend);
}

function revoke(rec, params, act, spend) {
	const client = authenticate(rec, params, settings.auth.revoke);
	if (client === null) return refusal(401, dex() ? 'unauthorized_client' : 'invalid_client');
	if (dex() && params.token_type_hint !== 'refresh_token') return refusal(400, 'unsupported_token_type');
	const grant = refreshTokens.get(params.token) ?? bearers.get(params.token)?.grant;
	if (grant === undefined || grant.client !== client) {
		return dex() ? refusal(400, 'invalid_request') : { status: 200, body: '' };
	}
	if (spend) grant.alive = false;
	return { status: 200, body: '' };
}

const escapeHtml = (text) => text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

function formPage(action, pairs) {
	const input = ([name, value]) => `<input type="hidden" name="${escapeHtml(name)}" value="${escapeHtml(value)}"/>`;
	return `<html><body onload="document.forms[0].submit()"><form method="post" action="${escapeHtml(action)}">${
		pairs.map(input).join('')}</form></body></html>`;
}

function newCode(params) {
	const code = newToken('code', 'code', codes);
	codes.set(code, { client: params.client_id, redirectUri: params.redirect_uri, nonce: params.nonce,
		scope: params.scope ?? '', challenge: params.code_challenge, connector: params.connector ?? '',
		sub: settings.sub ?? `sub-${params.login_hint ?? params.connector ?? 1}`, used: false,
		authTime: seconds(), ends: now() + settings.code_ttl * 1000 });
	clear.set(sha256(code), code);
	return code;
}

function auth(rec, params, act) {
	const back = params.redirect_uri;
	if (!Object.hasOwn(settings.clients, params.client_id ?? '') || !back) {
		return { status: 400, body: 'Invalid client_id or redirect_uri.', headers: { 'content-type': 'text/html' } };
	}
	const answer = act.error === undefined ? { code: newCode(params) }
		: merge({ error: act.error }, { error_description: act.error_description ?? null });
	answer.state = params.state ?? '';
	if (settings.iss_parameter) answer.iss = issuer();
	const pairs = Object.entries(merge(answer, act.set))
		.flatMap(([name, value]) => [value].flat().map((one) => [name, String(one)]));
	if (params.response_mode === 'form_post') {
		return { status: 200, headers: { 'content-type': 'text/html; charset=utf-8' }, body: formPage(back, pairs) };
	}
	const location = `${back}${back.includes('?') ? '&' : '?'}${new URLSearchParams(pairs)}`;
	return { status: 303, body: '', headers: { location } };
}

function api(rec) {
	const bearer = bearers.get(rec.authorization?.replace(/^Bearer /, '') ?? '');
	if (!bearer || !bearer.grant.alive || now() >= bearer.ends) {
		return { status: 401, json: { code: 602, message: 'Customer not authorized' } };
	}
	return { status: 200, json: { sub: bearer.grant.sub, grant: bearer.grant.n } };
}

const discovery = () => ({ status: 200, json: merge({
	issuer: issuer(), authorization_endpoint: `${base}/auth`, token_endpoint: `${base}/token`,
	revocation_endpoint: `${base}/revoke`, userinfo_endpoint: `${base}/userinfo`, jwks_uri: `${base}/jwks`,
	response_types_supported: ['code'], response_modes_supported: ['query', 'form_post'],
	subject_types_supported: ['public'], code_challenge_methods_supported: ['S256'],
	id_token_signing_alg_values_supported: algorithms,
	token_endpoint_auth_methods_supported: ['client_secret_basic', 'client_secret_post', 'none'],
	authorization_response_iss_parameter_supported: settings.iss_parameter,
}, settings.discovery) });

const shownKey = ({ kid, ...jwk }) => (settings.jwks_without_kid ? jwk : { ...jwk, kid });
const jwks = () => ({ status: 200, json: { keys: published().map(shownKey) },
	headers: settings.jwks_max_age === null ? {} : { 'cache-control': `max-age=${settings.jwks_max_age}` } });

const endpoints = { discovery, jwks, auth, token, revoke, api, other: () => ({ status: 404, body: 'no such page' }) };

// ---- one request ----------------------------------------------------------

function endpointOf(path) {
	if (path.includes('/.well-known/openid-configuration')) return 'discovery';
	return { '/jwks': 'jwks', '/keys': 'jwks', '/auth': 'auth', '/token': 'token', '/revoke': 'revoke', '/userinfo': 'api',
		'/api': 'api' }[path] ?? 'other';
}

function toParams(text) {
	const params = Object.create(null);
	for (const [name, value] of new URLSearchParams(text)) {
		params[name] = name in params ? [params[name], value].flat() : value;
	}
	return params;
}

function record(req, url) {
	const rec = { n: requests.length, at: now(), method: req.method,
		endpoint: endpointOf(url.pathname), path: url.pathname,
		authorization: req.headers.authorization, content_type: req.headers['content-type'],
		accept: req.headers.accept, remote_port: req.socket.remotePort, arrived_complete: false,
		spent: false, reused: false, outcome: 'pending' };
	requests.push(rec);
	counts[rec.endpoint] = (counts[rec.endpoint] ?? 0) + 1;
	return rec;
}

function describe(rec, params) {
	const shown = (name, value) => (secretParams.has(name) ? sha256(value) : value);
	const sent = params.code ?? params.refresh_token ?? params.token;
	rec.grant = params.grant_type;
	if (typeof sent === 'string') rec.token = sha256(sent);
	rec.params = Object.fromEntries(Object.entries(params).map(([name, value]) => [name,
		Array.isArray(value) ? value.map((one) => shown(name, one)) : shown(name, value)]));
	return sent;
}

function take(rec) {
	const entry = queue.find((one) => one.endpoint === rec.endpoint
		&& (one.grant === undefined || one.grant === rec.grant)
		&& (one.token === undefined || one.token === rec.token));
	if (entry === undefined) return {};
	if (entry.times > 0 && --entry.times === 0) queue = queue.filter((one) => one !== entry);
	return entry.do;
}

const hold = (name) => new Promise((resolve) => {
	waiting.set(name, [...(waiting.get(name) ?? []), resolve]);
});

// The ordinary answer as the script wants it: { status, headers, body }.
function shape(answer, act, sent) {
	const headers = { ...answer.headers };
	const json = answer.status === 200 && answer.json && act.set ? merge({ ...answer.json }, act.set) : answer.json;
	let body = answer.body;

	if (json !== undefined) {
		body = act.form ? new URLSearchParams(json).toString() : JSON.stringify(json);
		headers['content-type'] = act.form ? 'application/x-www-form-urlencoded' : 'application/json';
	}
	if (act.json !== undefined) {
		body = JSON.stringify(act.json);
		headers['content-type'] = 'application/json';
	}
	if (act.body !== undefined) {
		body = act.body.replace(/\{\{(\w+)\}\}/g, (all, name) => (name === 'sent' ? sent : answer.json?.[name]) ?? all);
	}
	if (act.redirect !== undefined) {
		headers.location = act.redirect.location;
		body = '';
	}
	if (act.content_type !== undefined) headers['content-type'] = act.content_type;
	if (act.no_content_type) delete headers['content-type'];
	if (act.close) headers.connection = 'close';
	body = Buffer.from(`${act.bom ? '\ufeff' : ''}${body ?? ''}${act.suffix ?? ''}`);
	return { status: act.redirect?.status ?? act.status ?? answer.status, body, headers: merge(headers, act.headers) };
}

function closeHard(socket, reset) {
	const raw = rawSockets.get(socket.remotePort);
	if (reset && raw) raw.resetAndDestroy();
	socket.destroy();
}

function cutAnswer(res, { status, headers, body }, act) {
	const promised = act.cut === 'after_body' ? body.length + 16 : body.length;
	const lines = Object.entries({ ...headers, 'content-length': promised })
		.map(([name, value]) => `${name}: ${value}\r\n`);
	const head = Buffer.from(`HTTP/1.1 ${status} Scripted\r\n${lines.join('')}\r\n`);
	const after = { before_answer: -head.length, after_headers: 0, half_body: body.length >> 1, after_body: body.length };
	const length = head.length + (after[act.cut] ?? act.cut.after_bytes);
	const { socket } = res;

	if (length === 0) closeHard(socket, act.reset);
	else socket.write(Buffer.concat([head, body]).subarray(0, length), () => closeHard(socket, act.reset));
}

async function sendAnswer(res, { status, headers, body }, act) {
	res.writeHead(status, { ...headers, 'content-length': body.length });
	if (act.drip !== undefined) {
		for (let at = 0; at < body.length && !res.destroyed; at += act.drip.bytes) {
			res.write(body.subarray(at, at + act.drip.bytes));
			await nap(act.drip.every_ms);
		}
		res.end();
	} else {
		res.end(body);
	}
}

async function handle(req, res, url) {
	const rec = record(req, url);
	res.on('close', () => { if (rec.outcome === 'pending') rec.outcome = 'gone'; });
	const text = await readBody(req);
	const params = toParams(req.method === 'POST' ? text : url.search);
	rec.arrived_complete = true;
	bodies.set(rec.n, text);
	const sent = describe(rec, params);
	const act = take(rec);
	const replaced = act.json !== undefined || act.redirect !== undefined || act.status >= 300
		|| (act.body !== undefined && !act.body.includes('{{refresh_token}}'));
	const spend = act.spend ?? !replaced;

	if (act.hold_before !== undefined) await hold(act.hold_before);
	const plain = replaced && !spend && !act.body?.includes('{{') ? { status: 200 }
		: endpoints[rec.endpoint](rec, params, act, spend);
	const answer = shape(plain, act, sent);
	rec.status = answer.status;
	rec.error = (act.json ?? plain.json)?.error;
	if (act.delay_ms !== undefined) await nap(act.delay_ms);
	if (act.hold !== undefined) await hold(act.hold);
	if (rec.outcome === 'gone') return;
	rec.outcome = act.cut === undefined ? 'answered' : 'cut';
	if (act.cut === undefined) await sendAnswer(res, answer, act);
	else cutAnswer(res, answer, act);
}

// ---- control and ledger ---------------------------------------------------

function demand(condition, text) {
	if (!condition) throw new Error(text);
}

function known(object, words, where) {
	for (const name of Object.keys(object)) demand(words.has(name), `${where}: unknown word "${name}"`);
}

function change(into, from) {
	known(from, new Set(Object.keys(defaults)), 'set');
	for (const [name, value] of Object.entries(from)) {
		const inner = defaults[name] !== null && typeof defaults[name] === 'object';
		if (!inner) into[name] = value;
		else into[name] = value === null ? structuredClone(defaults[name]) : { ...into[name], ...value };
	}
}

function enqueue(entry) {
	known(entry, entryWords, 'queue');
	known(entry.do ?? {}, doWords, 'do');
	known(entry.do?.id_token ?? {}, idTokenWords, 'id_token');
	demand(endpointNames.has(entry.endpoint), `queue: no endpoint "${entry.endpoint}"`);
	queue.push({ times: 1, do: {}, ...entry });
}

function killGrants(which) {
	demand(which === 'all' || grants[which] !== undefined, `kill_grant: no grant ${which}`);
	for (const grant of which === 'all' ? grants : [grants[which]]) grant.alive = false;
}

const commands = {
	set: (value) => change(settings, value),
	queue: (value) => value.forEach(enqueue),
	clear: (value) => { queue = queue.filter((one) => value !== true && one.endpoint !== value); },
	release: (value) => {
		for (const resolve of waiting.get(value) ?? []) resolve();
		waiting.delete(value);
	},
	rotate_key: (value) => newKey(value.alg ?? settings.alg, value),
	withdraw_key: withdrawKey,
	kill_grant: killGrants,
	kill_bearers: () => bearers.clear(),
	close_idle: () => server.closeIdleConnections(),
	down: setDown,
	reset_ledger: () => {
		requests = [];
		counts = {};
		bodies = new Map();
	},
};

async function control(body) {
	const words = JSON.parse(body);
	known(words, new Set(Object.keys(commands)), 'control');
	for (const [name, value] of Object.entries(words)) await commands[name](value);
}

const tokenRequests = () => requests.filter((rec) => rec.endpoint === 'token' && rec.arrived_complete && rec.token);

function ledger() {
	const arrivals = {};
	for (const rec of tokenRequests()) arrivals[rec.token] = (arrivals[rec.token] ?? 0) + 1;
	return { requests, counts, arrivals, grants: grants.map((grant) => ({ n: grant.n, sub: grant.sub, client: grant.client,
		connector: grant.connector, scope: grant.scope, alive: grant.alive, generation: grant.generation,
		current: sha256(grant.current), spent: grant.spent.map((old) => sha256(old.token)) })) };
}

async function administer(req, res, url) {
	const query = url.searchParams;
	switch (url.pathname) {
	case '/control':
		await control(await readBody(req));
		return sendJson(res, 200, { ok: true });
	case '/control/held': return sendJson(res, 200, { held: waiting.get(query.get('name'))?.length ?? 0 });
	case '/ledger': return sendJson(res, 200, ledger());
	case '/ledger/arrivals': return sendJson(res, 200,
		{ count: tokenRequests().filter((rec) => rec.token === query.get('token')).length });
	case '/ledger/count': return sendJson(res, 200, { count: requests.filter((rec) => rec.arrived_complete
		&& rec.endpoint === query.get('endpoint') && (!query.has('grant') || rec.grant === query.get('grant'))).length });
	case '/ledger/raw': return sendText(res, clear.get(query.get('hash')));
	case '/ledger/body': return sendText(res, bodies.get(Number(query.get('n'))));
	default: return sendJson(res, 404, { error: 'no such page' });
	}
}

// ---- start ----------------------------------------------------------------

const rawSockets = new Map(); // remote port -> TCP socket, for resets under TLS
server.on('connection', (socket) => {
	const port = socket.remotePort;
	rawSockets.set(port, socket);
	socket.on('close', () => { if (rawSockets.get(port) === socket) rawSockets.delete(port); });
});

serve((issuerUrl) => {
	base = issuerUrl;
	for (const alg of algorithms) newKey(alg);
	return (req, res) => {
		handle(req, res, new URL(req.url, base)).catch((error) => {
			if (!req.errored) console.error(error); // a request that broke off is no fault
			res.destroy();
		});
	};
}, administer);

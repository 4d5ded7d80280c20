// SPDX-License-Identifier: MIT
// oidc-provider, unmodified, with an in-memory store that forgets nothing, a
// login and a consent page that plain HTTP can drive, and a ledger of what
// arrived at its token endpoint. It asks for no password: tests only.
//
// Rotates every refresh token; a spent one that comes back kills its grant.
// PKCE with S256 is required. A refresh token comes with every code.
//
// ENVIRONMENT  ACCESS_TTL, ID_TTL, REFRESH_TTL in seconds; REDIRECT_URIS, split
//   by spaces, besides those below.
// CLIENTS      see `clients`; sign in under any name, which becomes the subject.
// PAGES        GET /auth -> /interaction/ID: a form that posts login=NAME to
//   /interaction/ID/login, then one that posts to /interaction/ID/confirm; a
//   post to /interaction/ID/abort says no.
// CONTROL      at the control server (common.mjs): POST /control with
//   {"set":{"clock_offset_ms":n}} to move its clock, {"down":true} or false.
// LEDGER       there too: GET /ledger, /ledger/count?endpoint=token[&grant=G],
//   /ledger/arrivals?token=SHA256, /ledger/raw?hash=SHA256: as the practice provider has
//   them, with requests of the token and the revocation endpoint only.
import { generateKeyPairSync } from 'node:crypto';
import { readBody, sendJson, sendText, serve, setDown, sha256 } from './serve.mjs';

// The library's notices would stand before the line that tells the port.
console.info = console.error;
const { default: Provider } = await import('oidc-provider');

const seconds = (name, fallback) => Number(process.env[name] ?? fallback);
const redirectUris = ['https://app.example/cb', 'https://app.example/cb/', 'https://app.example/cb?tenant=7',
	'https://app.example:8443/cb', ...(process.env.REDIRECT_URIS ?? '').split(' ').filter(Boolean)];

const client = (id, secret, more = {}) => ({ client_id: id, ...(secret && { client_secret: secret }),
	redirect_uris: redirectUris, response_types: ['code'], grant_types: ['authorization_code', 'refresh_token'],
	token_endpoint_auth_method: 'client_secret_basic', ...more });
const clients = [
	client('test-client', 'test-secret'),
	client('post-client', 'post-secret', { token_endpoint_auth_method: 'client_secret_post' }),
	client('public-client', undefined, { token_endpoint_auth_method: 'none' }),
	client('odd:id /1', 'p+q/r:s%t=u v&w'),
	...['RS256', 'PS256', 'ES256', 'EdDSA'].map((alg) => client(`${alg.toLowerCase()}-client`, 'test-secret',
		{ id_token_signed_response_alg: alg })),
];

const jwk = (kid, ...kind) => (
	{ ...generateKeyPairSync(...kind).privateKey.export({ format: 'jwk' }), kid, use: 'sig' });

// ---- clock ------------------------------------------------------------------

const systemNow = Date.now.bind(Date);
let clockOffset = 0;
Date.now = () => systemNow() + clockOffset;

// ---- store --------------------------------------------------------------------

const rows = new Map();   // kind:id -> payload
const grants = [];        // as the ledger shows them
const byGrantId = new Map();
const clear = new Map();  // hash -> code or refresh token

function noteGrant(id, kind, payload) {
	if (!byGrantId.has(payload.grantId)) {
		const grant = { n: grants.length, sub: payload.accountId, client: payload.clientId, connector: '',
			scope: payload.scope, alive: true, generation: 0, current: '', spent: [] };
		grants.push(grant);
		byGrantId.set(payload.grantId, grant);
	}
	const grant = byGrantId.get(payload.grantId);
	clear.set(sha256(id), id);
	if (kind !== 'RefreshToken' || payload.consumed || grant.current === sha256(id)) return;
	if (grant.current !== '') grant.spent.push(grant.current);
	grant.current = sha256(id);
	grant.generation++;
}

class MapAdapter {
	constructor(kind) {
		this.kind = kind;
	}

	key(id) {
		return `${this.kind}:${id}`;
	}

	async upsert(id, payload) {
		rows.set(this.key(id), payload);
		if (payload.uid) rows.set(`uid:${payload.uid}`, payload);
		if (['AuthorizationCode', 'RefreshToken'].includes(this.kind)) noteGrant(id, this.kind, payload);
	}

	async find(id) {
		return rows.get(this.key(id));
	}

	async findByUid(uid) {
		return rows.get(`uid:${uid}`);
	}

	async findByUserCode() {
		return undefined;
	}

	async consume(id) {
		const row = rows.get(this.key(id)); // gone if the grant was revoked meanwhile
		if (row) row.consumed = Math.floor(Date.now() / 1000);
	}

	async destroy(id) {
		rows.delete(this.key(id));
		if (this.kind === 'Grant' && byGrantId.has(id)) byGrantId.get(id).alive = false;
	}

	async revokeByGrantId(grantId) {
		for (const [key, payload] of rows) if (payload.grantId === grantId) rows.delete(key);
		if (byGrantId.has(grantId)) byGrantId.get(grantId).alive = false;
	}
}

// ---- ledger -------------------------------------------------------------------

const requests = [];
const endpointOf = { '/token': 'token', '/token/revocation': 'revoke' };
const sentToken = ({ code, refresh_token: refreshToken, token }) => code ?? refreshToken ?? token;

async function keepLedger(ctx, next) {
	const endpoint = endpointOf[ctx.path];
	if (endpoint === undefined) return next();
	const rec = { n: requests.length, at: Date.now(), method: ctx.method, endpoint, path: ctx.path,
		authorization: ctx.get('authorization') || undefined, content_type: ctx.get('content-type'),
		accept: ctx.get('accept'), remote_port: ctx.req.socket.remotePort, arrived_complete: false, outcome: 'pending' };
	requests.push(rec);
	await next();
	const body = ctx.oidc?.body ?? {};
	const sent = sentToken(body);
	Object.assign(rec, { arrived_complete: ctx.req.complete, outcome: 'answered', status: ctx.status,
		error: ctx.body?.error, grant: body.grant_type, token: sent && sha256(sent), client: ctx.oidc?.client?.clientId,
		auth: rec.authorization ? 'basic' : body.client_secret ? 'post' : 'none' });
	return undefined;
}

const arrived = (endpoint) => requests.filter((rec) => rec.endpoint === endpoint && rec.arrived_complete);

function ledger() {
	const arrivals = {};
	const counts = { token: arrived('token').length, revoke: arrived('revoke').length };
	for (const rec of arrived('token')) if (rec.token) arrivals[rec.token] = (arrivals[rec.token] ?? 0) + 1;
	return { requests, grants, counts, arrivals };
}

async function administer(req, res, { pathname, searchParams: query }) {
	switch (pathname) {
	case '/control': {
		const { set, down } = JSON.parse(await readBody(req));
		clockOffset = set?.clock_offset_ms ?? clockOffset;
		if (down !== undefined) await setDown(down);
		return sendJson(res, 200, { ok: true });
	}
	case '/ledger': return sendJson(res, 200, ledger());
	case '/ledger/count': return sendJson(res, 200, { count: arrived(query.get('endpoint'))
		.filter((rec) => !query.has('grant') || rec.grant === query.get('grant')).length });
	case '/ledger/arrivals': return sendJson(res, 200,
		{ count: arrived('token').filter((rec) => rec.token === query.get('token')).length });
	case '/ledger/raw': return sendText(res, clear.get(query.get('hash')));
	default: return sendJson(res, 404, { error: 'no such page' });
	}
}

// ---- login and consent ----------------------------------------------------------

const page = (uid, action, fields) => `<!DOCTYPE html><title>Test bank</title>
<form method="post" action="/interaction/${uid}/${action}">${fields}<button>Continue</button></form>`;

function showPage(res, { uid, prompt }) {
	const html = prompt.name === 'login' ? page(uid, 'login', '<input name="login" value="">') : page(uid, 'confirm', '');
	res.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end(html);
}

async function consentTo(provider, { session, params, prompt, grantId }) {
	const grant = grantId ? await provider.Grant.find(grantId)
		: new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
	const { missingOIDCScope: scopes, missingOIDCClaims: claims } = prompt.details;
	if (scopes) grant.addOIDCScope(scopes.join(' '));
	if (claims) grant.addOIDCClaims(claims);
	return grant.save();
}

async function interact(provider, req, res, action) {
	const interaction = await provider.interactionDetails(req, res);
	if (req.method === 'GET') return showPage(res, interaction);
	const results = {
		login: async () => ({ login: { accountId: new URLSearchParams(await readBody(req)).get('login') } }),
		confirm: async () => ({ consent: { grantId: await consentTo(provider, interaction) } }),
		abort: async () => ({ error: 'access_denied', error_description: 'End-User aborted interaction' }),
	};
	return provider.interactionFinished(req, res, await results[action](),
		{ mergeWithLastSubmission: action === 'confirm' });
}

// ---- provider -------------------------------------------------------------------

const ownToken = (ctx, of, token) => token.clientId === of.clientId;

function makeProvider(issuer) {
	const provider = new Provider(issuer, {
		adapter: MapAdapter,
		clients,
		jwks: { keys: [jwk('rsa-1', 'rsa', { modulusLength: 2048 }), jwk('ec-1', 'ec', { namedCurve: 'P-256' }),
			jwk('ed-1', 'ed25519')] },
		cookies: { keys: ['not a secret'] },
		claims: { openid: ['sub'], profile: ['name'] },
		findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id, name: `Test user ${id}` }) }),
		features: { devInteractions: { enabled: false }, introspection: { enabled: true, allowedPolicy: ownToken },
			revocation: { enabled: true, allowedPolicy: ownToken } },
		interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
		pkce: { required: () => true },
		rotateRefreshToken: () => true,
		issueRefreshToken: (ctx, of) => of.grantTypeAllowed('refresh_token'),
		ttl: { AccessToken: seconds('ACCESS_TTL', 3600), IdToken: seconds('ID_TTL', 3600),
			RefreshToken: seconds('REFRESH_TTL', 30 * 86400), AuthorizationCode: 60,
			Interaction: 3600, Session: 30 * 86400, Grant: 30 * 86400 },
	});
	provider.use(keepLedger);
	provider.on('server_error', (ctx, error) => console.error(error));
	return provider;
}

serve((issuer) => {
	const provider = makeProvider(issuer);
	const answer = provider.callback();

	return (req, res) => {
		const [, first, , action] = new URL(req.url, issuer).pathname.split('/');
		if (first !== 'interaction') answer(req, res);
		else interact(provider, req, res, action).catch((error) => sendJson(res, 400, { error: error.message }));
	};
}, administer);

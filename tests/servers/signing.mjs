// SPDX-License-Identifier: MIT
// Keys and JWTs of the scripted server, by hand on node's crypto: a JOSE library
// would refuse to make the bad tokens that the tests need.
import { constants, createHmac, generateKeyPairSync, sign } from 'node:crypto';
import { merge } from './common.mjs';

const kinds = {
	RS256: ['rsa', { modulusLength: 2048 }], PS256: ['rsa', { modulusLength: 2048 }],
	ES256: ['ec', { namedCurve: 'P-256' }], EdDSA: ['ed25519'],
};
export const algorithms = Object.keys(kinds);

const keys = {};    // alg -> the key that signs: { alg, kid, privateKey, publicKey }
let inJwks = [];
let keyCount = 0;

export function newKey(alg, { same_kid: sameKid = false, keep_old: keepOld = true } = {}) {
	const old = keys[alg];
	const kid = sameKid ? old.kid : `${alg}-${++keyCount}`;
	keys[alg] = { alg, kid, ...generateKeyPairSync(...kinds[alg]) };
	if (sameKid || !keepOld) withdrawKey(old.kid);
	inJwks.push(keys[alg]);
}

export function withdrawKey(kid) {
	inJwks = inJwks.filter((key) => key.kid !== kid);
}

export const published = () => inJwks.map(({ alg, kid, publicKey }) => (
	{ ...publicKey.export({ format: 'jwk' }), kid, alg, use: 'sig' }));

function signature(alg, key, input) {
	switch (alg) {
	case 'RS256': return sign('sha256', input, key);
	case 'PS256': return sign('sha256', input, { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 });
	case 'ES256': return sign('sha256', input, { key, dsaEncoding: 'ieee-p1363' });
	default: return sign(null, input, key);
	}
}

function mark(alg, input, how) {
	const key = keys[alg];
	const hmac = (format) => createHmac('sha256', key.publicKey.export({ type: 'spki', format })).update(input).digest();

	switch (how) {
	case 'none': return Buffer.alloc(0);
	case 'hs256_pem': return hmac('pem');
	case 'hs256_der': return hmac('der');
	case 'wrong_key': return signature(alg, generateKeyPairSync(...kinds[alg]).privateKey, input);
	case 'broken': {
		const bytes = signature(alg, key.privateKey, input);
		bytes[bytes.length >> 1] ^= 1;
		return bytes;
	}
	default: return signature(alg, key.privateKey, input);
	}
}

const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

// how: the words of `id_token` in scripted.mjs.
export function signJwt(alg, claims, how) {
	const shown = how.sign === 'none' ? 'none' : how.sign?.startsWith('hs256') ? 'HS256' : alg;
	const header = merge({ alg: shown, kid: keys[alg].kid, typ: 'JWT' }, how.header);
	const input = `${part(header)}.${part(claims)}`;

	return `${input}.${mark(alg, Buffer.from(input), how.sign).toString('base64url')}${how.suffix ?? ''}`;
}

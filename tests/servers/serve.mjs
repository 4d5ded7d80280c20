// SPDX-License-Identifier: MIT
// How the certified provider is served: on ephemeral ports of 127.0.0.1, which it
// tells in one line of JSON on stdout, {"port","issuer","control"}; it ends when
// stdin is closed, so that a dead test never leaves it behind. `control` is a
// second, plain http server, which works while the real one is down.
//
// Environment: TLS_KEY and TLS_CERT name PEM files.
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';

export const sha256 = (text) => createHash('sha256').update(text).digest('hex');

const server = https.createServer({ key: readFileSync(process.env.TLS_KEY), cert: readFileSync(process.env.TLS_CERT) });
// Long enough that no test's idle connection dies of itself.
server.keepAliveTimeout = 120_000;

async function listen(one, port) {
	one.listen(port, '127.0.0.1', 1024);
	await once(one, 'listening');
	return one.address().port;
}

// build(issuer) returns the request listener; administer(req, res, url) answers
// at the control server.
export async function serve(build, administer) {
	const control = http.createServer((req, res) => {
		administer(req, res, new URL(req.url, 'http://control'))
			.catch((error) => sendJson(res, 400, { error: error.message }));
	});
	const port = await listen(server, 0);
	const issuer = `https://localhost:${port}`;

	server.on('request', build(issuer));
	process.stdin.on('end', () => process.exit(0)).on('error', () => process.exit(0)).resume();
	const controlPort = await listen(control, 0);
	process.stdout.write(`${JSON.stringify({ port, issuer, control: `http://127.0.0.1:${controlPort}` })}\n`);
}

// Down: connections are cut and refused. Up again at the same port.
let downPort = 0;
export async function setDown(down) {
	if (down && server.listening) {
		downPort = server.address().port;
		const closed = once(server, 'close');
		server.close();
		server.closeAllConnections();
		await closed;
	} else if (!down && !server.listening) {
		await listen(server, downPort);
	}
}

export async function readBody(req) {
	const parts = [];
	for await (const part of req) parts.push(part);
	return Buffer.concat(parts).toString('utf8');
}

export function sendJson(res, status, value) {
	const body = JSON.stringify(value);
	res.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) });
	res.end(body);
}

export const sendText = (res, text) => res.writeHead(text === undefined ? 404 : 200,
	{ 'content-type': 'text/plain' }).end(text);

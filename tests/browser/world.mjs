// SPDX-License-Identifier: MIT
// A practice provider and an example host of one test's own, on ports of their own, with
// a certificate, a config file and a store made for them. Ends only what it started.
import { spawn, execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { createHash, randomBytes, X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import https from 'node:https';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const START_MS = 60_000;
const END_MS = 20_000;

export const provider = 'practice';

// All that anyone here writes, Chromium included, is below this folder.
const scratch = mkdtempSync(join(tmpdir(), 'acctlink-browser.'));
process.env.TMPDIR = scratch;
process.env.HOME = scratch;
process.on('exit', () => rmSync(scratch, { recursive: true, force: true, maxRetries: 3 }));

// ---- TLS -----------------------------------------------------------------------------

// A certificate for this machine that is its own authority.
function makeCertificate() {
	const key = join(scratch, 'tls.key');
	const cert = join(scratch, 'tls.pem');

	execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes',
		'-days', '2', '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1',
		'-addext', 'basicConstraints=critical,CA:TRUE', '-addext', 'keyUsage=digitalSignature,keyCertSign',
		'-keyout', key, '-out', cert], { stdio: ['ignore', 'ignore', 'pipe'] });
	return { key, cert };
}

export const tls = makeCertificate();

// What Chromium takes in place of a store of trusted certificates: our key, and no other.
export const pinnedKey = createHash('sha256').update(new X509Certificate(readFileSync(tls.cert))
	.publicKey.export({ type: 'spki', format: 'der' })).digest('base64');

// ---- programs --------------------------------------------------------------------------

function after(ms, what) {
	let timer;
	const promise = new Promise((_, reject) => {
		timer = setTimeout(() => reject(new Error(`${what} within ${ms / 1000} s`)), ms);
	});

	return { promise, cancel: () => clearTimeout(timer) };
}

// Waits for something, up to a bound that only a broken program reaches.
export async function within(ms, promise, what) {
	const limit = after(ms, what);

	try {
		return await Promise.race([promise, limit.promise]);
	} finally {
		limit.cancel();
	}
}

const running = new Set();
process.on('exit', () => running.forEach((child) => child.kill('SIGKILL')));

// Starts a program that prints one line of JSON when it is ready.
async function start(name, path, options) {
	const child = spawn(path, [...options, '--stdin-ends'], { cwd: scratch, stdio: ['pipe', 'pipe', 'pipe'] });
	const program = { name, child, log: '', ended: once(child, 'exit') };
	let line = '';

	running.add(child);
	child.on('error', (error) => { program.log += `${error.message}\n`; });
	child.stdin.on('error', () => {});
	child.stderr.setEncoding('utf8').on('data', (text) => { program.log += text; });
	const ready = new Promise((resolve, reject) => {
		child.stdout.setEncoding('utf8').on('data', (text) => {
			line += text;
			if (line.includes('\n')) resolve(JSON.parse(line.slice(0, line.indexOf('\n'))));
		}).on('end', () => reject(new Error(`${name} ended at its start:\n${program.log}`)));
	});
	program.ready = await within(START_MS, ready, `${name} was not ready`);
	return program;
}

// Ends a program and says how it took that: it must leave by itself, in order.
async function end(program) {
	program.child.kill('SIGTERM');
	try {
		const [code, signal] = await within(END_MS, program.ended, `${program.name} did not end`);

		if (code !== 0) throw new Error(`${program.name} ended with ${signal ?? code}:\n${program.log}`);
	} catch (error) {
		program.child.kill('SIGKILL');
		throw error;
	} finally {
		running.delete(program.child);
	}
}

// A port that is free now: the host's own address stands in the config before it starts.
async function freePort() {
	const server = createServer().listen(0, '127.0.0.1');

	await once(server, 'listening');
	const { port } = server.address();
	server.close();
	await once(server, 'close');
	return port;
}

// ---- the config file ---------------------------------------------------------------------

function writeConfig(dir, issuer, hostUrl, lines) {
	const path = join(dir, 'acctlink.conf');
	const secret = (name, text) => {
		writeFileSync(join(dir, name), text, { mode: 0o600 });
		return join(dir, name);
	};

	writeFileSync(path, `
store = {
	path = "${join(dir, 'store.db')}";
	key_file = "${secret('store.key', randomBytes(32).toString('hex'))}";
};
providers = {
	${provider} = {
		profile = "akoya";
		issuer = "${issuer}/";
		ca_file = "${tls.cert}";
		client_id = "test-client";
		client_secret_file = "${secret('client.secret', 'test-secret')}";
		redirect_uri = "${hostUrl}/callback";
		min_refresh_interval = 0; # nobody waits between two clicks
		${lines}
	};
};
`, { mode: 0o600 });
	return path;
}

// ---- a world ----------------------------------------------------------------------------

async function getJson(url, body) {
	const answer = await fetch(url, body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) });
	const json = await answer.json();

	if (!answer.ok) throw new Error(`${url}: ${answer.status} ${JSON.stringify(json)}`);
	return json;
}

const institutions = { mikomo: 'Mikomo Bank', heronmere: 'Heronmere Trust', quillmark: 'Quillmark & Daughters' };

export class World {
	// hostScheme: "http" or "https"; hostName: where browsers find the host; lines: more of
	// the provider's section.
	static async open({ hostScheme = 'http', hostName = '127.0.0.1', lines = '' } = {}) {
		const world = new World();
		const port = await freePort();
		const dir = mkdtempSync(join(scratch, 'world.'));
		const pem = ['--tls-cert', tls.cert, '--tls-key', tls.key];
		const named = Object.entries(institutions).flatMap(([name, title]) => ['--institution', `${name}=${title}`]);

		world.hostUrl = `${hostScheme}://${hostName}:${port}`;
		world.bank = await start('the practice provider', join(process.env.TH_BUILDDIR, 'tools/practice/practice'),
			[...pem, '--set', JSON.stringify({ pages: true, habits: true, issuer_path: '/' })]);
		world.bankUrl = `https://localhost:${world.bank.ready.port}`;
		world.control = world.bank.ready.control;
		try {
			world.host = await start('the example host', join(process.env.TH_BUILDDIR, 'hosts/example/example'),
				['--plugin', process.env.ACCTLINK_PLUGIN, '--config', writeConfig(dir, world.bankUrl, world.hostUrl, lines),
					'--provider', provider, '--port', `${port}`, '--base-url', world.hostUrl,
					'--data-url', world.bankUrl, '--ca-file', tls.cert, ...named,
					...(hostScheme === 'https' ? pem : [])]);
		} catch (error) {
			await end(world.bank).catch(() => {});
			throw error;
		}
		return world;
	}

	async close() {
		const results = await Promise.allSettled([end(this.host), end(this.bank)]);

		for (const { reason } of results) if (reason !== undefined) throw reason;
	}

	say(words) {
		return getJson(`${this.control}/control`, words);
	}

	ledger() {
		return getJson(`${this.control}/ledger`);
	}

	async count(endpoint, grant) {
		const query = `endpoint=${endpoint}${grant === undefined ? '' : `&grant=${grant}`}`;
		return (await getJson(`${this.control}/ledger/count?${query}`)).count;
	}

	// The text of a code or token that the ledger knows by its hash.
	async raw(hash) {
		const answer = await fetch(`${this.control}/ledger/raw?hash=${hash}`);

		if (!answer.ok) throw new Error(`the ledger has no token ${hash}`);
		return answer.text();
	}

	// Every token that was given out; codes pass through the browser and don't count.
	async allTokens() {
		const { tokens } = await this.ledger();

		return Promise.all(tokens.filter((token) => token.kind !== 'code').map((token) => this.raw(token.hash)));
	}

	// The status of the data API for a bearer, asked past the host.
	async askAccounts(institution, bearer) {
		const request = https.get(`${this.bankUrl}/accounts/v2/${institution}`,
			{ ca: readFileSync(tls.cert), agent: false, headers: { authorization: `Bearer ${bearer}` } });
		const [answer] = await once(request, 'response');

		answer.resume();
		return answer.statusCode;
	}
}

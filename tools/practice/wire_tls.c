/* SPDX-License-Identifier: MIT
 * TLS over bytes in memory, so that the relay has both the plaintext and the
 * ciphertext in its hands and can cut either after any byte. A connection's
 * state belongs to its relay's thread; the context is shared, OpenSSL locks it.
 */
#include "wire.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <string.h>

/* http/1.1 is all that we speak; a client that offers other things only may try. */
static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
	unsigned in_len, void *unused)
{
	static const unsigned char ours[] = "\x08http/1.1";
	unsigned i;

	(void)ssl;
	(void)unused;
	for (i = 0; i < in_len && i + 1 + in[i] <= in_len; i += 1u + in[i]) {
		if (in[i] == ours[0] && memcmp(in + i + 1, ours + 1, ours[0]) == 0) {
			*out = in + i + 1;
			*out_len = in[i];
			return SSL_TLSEXT_ERR_OK;
		}
	}
	return SSL_TLSEXT_ERR_NOACK;
}

struct ssl_ctx_st *pp_tls_context(const char *cert_file, const char *key_file)
{
	SSL_CTX *context = SSL_CTX_new(TLS_server_method());

	if (context == NULL || SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1)
		pp_die("TLS doesn't start: %s", ERR_reason_error_string(ERR_peek_last_error()));
	if (SSL_CTX_use_certificate_chain_file(context, cert_file) != 1)
		pp_die("%s: no certificate: %s", cert_file, ERR_reason_error_string(ERR_peek_last_error()));
	if (SSL_CTX_use_PrivateKey_file(context, key_file, SSL_FILETYPE_PEM) != 1)
		pp_die("%s: no key for the certificate: %s", key_file, ERR_reason_error_string(ERR_peek_last_error()));
	SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION);
	SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_alpn_select_cb(context, choose_protocol, NULL);
	return context;
}

struct ssl_st *pp_tls_new(struct ssl_ctx_st *context)
{
	SSL *ssl = SSL_new(context);
	BIO *in = BIO_new(BIO_s_mem());
	BIO *out = BIO_new(BIO_s_mem());

	if (ssl == NULL || in == NULL || out == NULL)
		pp_die("out of memory");
	SSL_set_bio(ssl, in, out);
	SSL_set_accept_state(ssl);
	return ssl;
}

void pp_tls_free(struct ssl_st *ssl)
{
	SSL_free(ssl);
}

static void collect(SSL *ssl, struct pp_bytes *out)
{
	char part[4096];
	int len;

	while ((len = BIO_read(SSL_get_wbio(ssl), part, sizeof(part))) > 0)
		pp_bytes_add(out, part, (size_t)len);
}

enum pp_tls pp_tls_read(struct ssl_st *ssl, const char *data, size_t len, struct pp_bytes *plain, struct pp_bytes *out)
{
	enum pp_tls now = PP_TLS_GOES_ON;
	char part[4096];
	int why;
	int got;

	if (BIO_write(SSL_get_rbio(ssl), data, (int)len) != (int)len)
		pp_die("out of memory");
	ERR_clear_error();
	while ((got = SSL_read(ssl, part, sizeof(part))) > 0)
		pp_bytes_add(plain, part, (size_t)got);
	why = SSL_get_error(ssl, got);
	if (why == SSL_ERROR_ZERO_RETURN)
		now = PP_TLS_BYE;
	else if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE)
		now = PP_TLS_BROKEN;
	ERR_clear_error();
	collect(ssl, out);
	return now;
}

bool pp_tls_write(struct ssl_st *ssl, const char *data, size_t len, struct pp_bytes *out)
{
	bool done;

	ERR_clear_error();
	done = SSL_write(ssl, data, (int)len) == (int)len;
	ERR_clear_error();
	collect(ssl, out);
	return done;
}

void pp_tls_bye(struct ssl_st *ssl, struct pp_bytes *out)
{
	ERR_clear_error();
	if (SSL_is_init_finished(ssl))
		(void)SSL_shutdown(ssl);
	ERR_clear_error();
	collect(ssl, out);
}

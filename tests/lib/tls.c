/* SPDX-License-Identifier: MIT
 * A CA and a server certificate for localhost, made afresh by each test
 * program. Keys are P-256, valid for two days.
 */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

static void add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509_EXTENSION *extension;

	X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
	extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	th_check(extension != NULL && X509_add_ext(cert, extension, -1) == 1, "certificate extension %s", value);
	X509_EXTENSION_free(extension);
}

static X509 *new_certificate(const char *name, long serial, EVP_PKEY *key, X509 *issuer)
{
	X509 *cert = X509_new();
	X509_NAME *subject = X509_NAME_new();

	th_check(cert != NULL && subject != NULL, "no memory");
	th_check(X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0) == 1
			&& X509_set_version(cert, X509_VERSION_3) == 1
			&& ASN1_INTEGER_set(X509_get_serialNumber(cert), serial) == 1
			&& X509_gmtime_adj(X509_getm_notBefore(cert), -86400) != NULL
			&& X509_gmtime_adj(X509_getm_notAfter(cert), 2 * 86400) != NULL
			&& X509_set_subject_name(cert, subject) == 1
			&& X509_set_issuer_name(cert, issuer != NULL ? X509_get_subject_name(issuer) : subject) == 1
			&& X509_set_pubkey(cert, key) == 1,
		"certificate for %s", name);
	X509_NAME_free(subject);
	return cert;
}

static void write_certificate(const char *path, X509 *cert)
{
	FILE *file = fopen(path, "we");

	th_check(file != NULL && PEM_write_X509(file, cert) == 1 && fclose(file) == 0, "write %s", path);
}

static void write_key(const char *path, EVP_PKEY *key)
{
	FILE *file = fopen(path, "we");

	th_check(file != NULL && PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL) == 1 && fclose(file) == 0,
		"write %s", path);
}

void th_tls_make(struct th_tls *tls, const char *dir)
{
	EVP_PKEY *ca_key = EVP_EC_gen("P-256");
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *ca;
	X509 *cert;

	th_check(ca_key != NULL && key != NULL, "EC key generation");
	ca = new_certificate("acctlink test CA", 1, ca_key, NULL);
	add_extension(ca, ca, NID_basic_constraints, "critical,CA:TRUE");
	add_extension(ca, ca, NID_key_usage, "critical,keyCertSign,cRLSign");
	add_extension(ca, ca, NID_subject_key_identifier, "hash");
	th_check(X509_sign(ca, ca_key, EVP_sha256()) > 0, "sign the CA");

	cert = new_certificate("localhost", 2, key, ca);
	add_extension(cert, ca, NID_basic_constraints, "critical,CA:FALSE");
	add_extension(cert, ca, NID_subject_alt_name, "DNS:localhost,IP:127.0.0.1");
	add_extension(cert, ca, NID_ext_key_usage, "serverAuth");
	add_extension(cert, ca, NID_subject_key_identifier, "hash");
	add_extension(cert, ca, NID_authority_key_identifier, "keyid");
	th_check(X509_sign(cert, ca_key, EVP_sha256()) > 0, "sign the certificate");

	tls->ca_file = th_printf("%s/ca.pem", dir);
	tls->cert_file = th_printf("%s/cert.pem", dir);
	tls->key_file = th_printf("%s/key.pem", dir);
	write_certificate(tls->ca_file, ca);
	write_certificate(tls->cert_file, cert);
	write_key(tls->key_file, key);

	X509_free(cert);
	X509_free(ca);
	EVP_PKEY_free(key);
	EVP_PKEY_free(ca_key);
}

void th_tls_clear(struct th_tls *tls)
{
	free(tls->ca_file);
	free(tls->cert_file);
	free(tls->key_file);
	*tls = (struct th_tls){ NULL, NULL, NULL };
}

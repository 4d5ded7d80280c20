/* SPDX-License-Identifier: MIT
 * The smallest host: links one account from a terminal and fetches the bearer.
 * usage: minimal PLUGIN CONFIG USER PROVIDER [INSTITUTION]
 * A real host sends `cookie` as Set-Cookie with its redirect to `url`, and hands
 * the Cookie header and the query string of the callback back.
 */
#include <acctlink_dl.h>

int main(int argc, char **argv)
{
	static char url[4096], cookie[512], query[4096], bearer[65536];
	acctlink_api api;
	acctlink *handle = NULL;
	acctlink_error err = { 0 };
	acctlink_init_args init = ACCTLINK_INIT_ARGS_INIT;
	acctlink_begin_args begin = ACCTLINK_BEGIN_ARGS_INIT;
	acctlink_begin_result flow = ACCTLINK_BEGIN_RESULT_INIT;
	acctlink_callback_args callback = ACCTLINK_CALLBACK_ARGS_INIT;
	acctlink_bearer_args get = ACCTLINK_BEARER_ARGS_INIT;

	if (argc < 5 || acctlink_dl_open(argv[1], &api, err.message, sizeof(err.message)) != 0)
		return fprintf(stderr, "minimal PLUGIN CONFIG USER PROVIDER [INSTITUTION]: %s\n", err.message), 2;
	init.config_path = (acctlink_str){ argv[2], strlen(argv[2]) };
	begin.user = callback.user = get.link.user = (acctlink_str){ argv[3], strlen(argv[3]) };
	begin.provider = get.link.provider = (acctlink_str){ argv[4], strlen(argv[4]) };
	if (argc > 5)
		begin.institution = get.link.institution = (acctlink_str){ argv[5], strlen(argv[5]) };
	flow.url = (acctlink_out){ url, sizeof(url), 0 };
	flow.set_cookie = (acctlink_out){ cookie, sizeof(cookie), 0 };

	if (api.init(&init, &handle, &err) != ACCTLINK_OK || api.begin(handle, &begin, &flow, &err) != ACCTLINK_OK)
		return fprintf(stderr, "%s: %s\n", err.where, err.message), 1;
	printf("Open this URL, then paste what follows the '?' of the address you come back to:\n%s\n", url);
	if (fgets(query, sizeof(query), stdin) == NULL)
		return 1;
	callback.params = (acctlink_str){ query, strcspn(query, "\r\n") };
	callback.cookie = (acctlink_str){ cookie, strcspn(cookie, ";") };
	if (api.on_callback(handle, &callback, NULL, &err) != ACCTLINK_OK
		|| api.get_bearer(handle, &get, bearer, sizeof(bearer), NULL, &err) != ACCTLINK_OK)
		return fprintf(stderr, "%s: %s\n", err.where, err.message), 1;
	printf("linked; the bearer has %zu bytes\n", strlen(bearer));
	return api.shutdown(handle, 0, &err) == ACCTLINK_OK ? 0 : 1;
}

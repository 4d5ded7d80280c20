/* SPDX-License-Identifier: MIT
 * What cppcheck can't see, since it reads no system header; test_linters.sh includes it
 * before each file, no compiler reads it.
 */
#define _Noreturn __attribute__((noreturn))

/* json-c's loops. */
#define lh_foreach(table, entry) for (entry = (table)->head; entry != NULL; entry = entry->next)
#define json_object_object_foreach(object, key, val) \
	char *key = next_key(object); \
	struct json_object *val = next_value(object); \
	for (; key != NULL; key = next_key(object), val = next_value(object))

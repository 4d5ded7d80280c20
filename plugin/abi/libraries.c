/* SPDX-License-Identifier: MIT
 * Looks where the functions of the plugin's libraries are found in this process. The
 * dynamic linker asks the host program first, and a name without a version satisfies every
 * look-up: a host that exports a function of its own called SSL_new or sqlite3_open_v2 gets
 * the plugin's calls. What happens then is undefined, so init refuses it and tells both
 * names. A library that comes as a whole from elsewhere, say from a host that has it built
 * in, is used. Reads what the linker has bound and calls nothing; any thread.
 */
#include "abi/abi_int.h"

#include <dlfcn.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>

#if __ELF_NATIVE_CLASS == 64
#define SYMBOL_OF(info) ELF64_R_SYM(info)
#else
#define SYMBOL_OF(info) ELF32_R_SYM(info)
#endif

typedef ElfW(Addr) elf_address;
typedef ElfW(Dyn) elf_entry;
typedef ElfW(Half) elf_half;
typedef ElfW(Rel) elf_rel;
typedef ElfW(Rela) elf_rela;
typedef ElfW(Sym) elf_symbol;
typedef ElfW(Vernaux) elf_aux;
typedef ElfW(Verneed) elf_need;

struct library {
	const char *soname; /* how it begins */
	const char *prefix; /* of its functions, where they have no version; or NULL */
	char symbol[64];    /* the first that was seen, found in: */
	const char *file;
	struct link_map *map;
};

/* What is read of one loaded object. */
struct object {
	struct link_map *map;
	const char *strings;
	const elf_symbol *symbols;
	const elf_half *versions;
	const char *needed; /* list of elf_need */
	struct {
		const char *first; /* elf_rela or elf_rel, which begins like it */
		size_t size;
		size_t step;
	} calls, data;
};

/* Most machines have the dynamic section relocated when it is seen, some don't. */
static const void *at(const struct link_map *map, elf_address address)
{
	return (const void *)(address < map->l_addr ? address + map->l_addr : address);
}

static bool read_object(struct link_map *map, struct object *object)
{
	memset(object, 0, sizeof(*object));
	object->map = map;
	object->calls.step = sizeof(elf_rela);
	for (const elf_entry *dyn = map->l_ld; dyn->d_tag != DT_NULL; dyn++) {
		const void *value = at(map, dyn->d_un.d_ptr);

		switch (dyn->d_tag) {
		case DT_STRTAB: object->strings = value; break;
		case DT_SYMTAB: object->symbols = value; break;
		case DT_VERSYM: object->versions = value; break;
		case DT_VERNEED: object->needed = value; break;
		case DT_JMPREL: object->calls.first = value; break;
		case DT_PLTRELSZ: object->calls.size = dyn->d_un.d_val; break;
		case DT_PLTREL:
			object->calls.step = dyn->d_un.d_val == DT_RELA ? sizeof(elf_rela) : sizeof(elf_rel);
			break;
		case DT_RELA:
		case DT_REL: object->data.first = value; break;
		case DT_RELASZ:
		case DT_RELSZ: object->data.size = dyn->d_un.d_val; break;
		case DT_RELAENT:
		case DT_RELENT: object->data.step = dyn->d_un.d_val; break;
		default: break;
		}
	}
	return object->strings != NULL && object->symbols != NULL;
}

/* The file and the version that a symbol is wanted from; both NULL: any. */
static void read_version(const struct object *object, size_t index, const char **file, const char **version)
{
	const char *place = object->needed;
	unsigned wanted = object->versions != NULL ? object->versions[index] & 0x7fff : 0;

	*file = *version = NULL;
	while (place != NULL && wanted > 1) {
		const elf_need *need = (const void *)place;
		const char *inner = place + need->vn_aux;

		for (unsigned i = 0; i < need->vn_cnt; i++) {
			const elf_aux *aux = (const void *)inner;

			if (aux->vna_other == wanted) {
				*file = object->strings + need->vn_file;
				*version = object->strings + aux->vna_name;
				return;
			}
			inner += aux->vna_next;
		}
		place = need->vn_next != 0 ? place + need->vn_next : NULL;
	}
}

static bool begins(const char *text, const char *with)
{
	return text != NULL && with != NULL && strncmp(text, with, strlen(with)) == 0;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash != NULL ? slash + 1 : path;
}

/* Who preloads a wrapper for some functions knows what it does. */
static bool is_preloaded(const char *path)
{
	const char *list = getenv("LD_PRELOAD");

	return list != NULL && strstr(list, base_name(path)) != NULL;
}

static bool has_versions(const struct link_map *map)
{
	for (const elf_entry *dyn = map->l_ld; dyn->d_tag != DT_NULL; dyn++) {
		if (dyn->d_tag == DT_VERDEF)
			return true;
	}
	return false;
}

static bool find_map(const void *function, struct link_map **map, const char **file)
{
	Dl_info home;
	bool found = function != NULL && dladdr1(function, &home, (void **)map, RTLD_DL_LINKMAP) != 0;

	if (found)
		*file = home.dli_fname;
	return found;
}

/* A program at a fixed address stands in for a function whose address it takes, with a
 * jump to the library. */
static bool is_stand_in(const void *function)
{
	const elf_symbol *symbol = NULL;
	Dl_info home;

	return dladdr1(function, &home, (void **)&symbol, RTLD_DL_SYMENT) != 0 && symbol != NULL
		&& symbol->st_shndx == SHN_UNDEF;
}

/* Where a call will go that is not bound yet: to the first object that has the name in
 * this version or that has no versions at all, which dlvsym passes over. */
static const void *look_up(const char *name, const char *version)
{
	const void *first = dlsym(RTLD_DEFAULT, name);
	struct link_map *map;
	const char *file;

	if (version == NULL || (find_map(first, &map, &file) && !has_versions(map)))
		return first;
	return dlvsym(RTLD_DEFAULT, name, version);
}

static al_rc check_function(struct library *library, const char *name, const void *function, acctlink_error *err)
{
	struct link_map *map;
	const char *file;

	if (!find_map(function, &map, &file) || is_stand_in(function) || is_preloaded(file))
		return ACCTLINK_OK;
	if (library->map == NULL) {
		library->map = map;
		library->file = file;
		(void)strncat(library->symbol, name, sizeof(library->symbol) - 1);
	}
	if (library->map == map)
		return ACCTLINK_OK;
	return al_fail(err, ACCTLINK_INTERNAL, library->soname,
		"the host exports names of this library as well; hide them "
		"(-Wl,--exclude-libs,ALL or hidden visibility) or, unless the host has a malloc of its own, load the plugin "
		"with RTLD_DEEPBIND: %s is found in %s, %s in %s",
		name, file, library->symbol, library->file);
}

static al_rc check_symbol(const struct object *object, size_t index, const void *bound, struct library *libraries,
	size_t count, acctlink_error *err)
{
	const char *name = object->strings + object->symbols[index].st_name;
	const char *wanted;
	const char *version;
	const char *file;
	struct link_map *map;
	al_rc rc = ACCTLINK_OK;

	read_version(object, index, &wanted, &version);
	for (size_t i = 0; rc == ACCTLINK_OK && i < count; i++) {
		if (wanted != NULL ? !begins(wanted, libraries[i].soname) : !begins(name, libraries[i].prefix))
			continue;
		if (!find_map(bound, &map, &file) || map == object->map)
			bound = look_up(name, version); /* it still leads to the linker */
		rc = check_function(&libraries[i], name, bound, err);
	}
	return rc;
}

static al_rc check_relocations(const struct object *object, const char *first, size_t size, size_t step,
	struct library *libraries, size_t count, acctlink_error *err)
{
	al_rc rc = ACCTLINK_OK;

	for (size_t done = 0; rc == ACCTLINK_OK && first != NULL && step > 0 && done + step <= size; done += step) {
		const elf_rel *relocation = (const void *)(first + done);
		size_t index = SYMBOL_OF(relocation->r_info);
		const void *bound;

		if (index == 0 || object->symbols[index].st_shndx != SHN_UNDEF)
			continue;
		memcpy(&bound, (const void *)(object->map->l_addr + relocation->r_offset), sizeof(bound));
		rc = check_symbol(object, index, bound, libraries, count, err);
	}
	return rc;
}

static al_rc check_object(struct link_map *map, struct library *libraries, size_t count, acctlink_error *err)
{
	struct object object;
	al_rc rc;

	if (!read_object(map, &object))
		return ACCTLINK_OK;
	rc = check_relocations(
		&object, object.calls.first, object.calls.size, object.calls.step, libraries, count, err);
	if (rc == ACCTLINK_OK)
		rc = check_relocations(
			&object, object.data.first, object.data.size, object.data.step, libraries, count, err);
	return rc;
}

/* The plugin itself first, then what its libraries want from each other. */
al_rc al_check_libraries(const struct al_log *log, acctlink_error *err)
{
	struct library libraries[] = { { .soname = "libcurl", .prefix = "curl_" },
		{ .soname = "libssl", .prefix = "SSL_" }, { .soname = "libcrypto" },
		{ .soname = "libjson-c", .prefix = "json_" }, { .soname = "libsqlite3", .prefix = "sqlite3_" },
		{ .soname = "libconfig", .prefix = "config_" } };
	const size_t count = AL_COUNT(libraries);
	struct link_map *own;
	const char *file;
	al_rc rc;

	if (!find_map(libraries[0].soname, &own, &file))
		return ACCTLINK_OK;
	rc = check_object(own, libraries, count, err);
	for (size_t i = 0; rc == ACCTLINK_OK && i < count; i++) {
		if (libraries[i].map != NULL && libraries[i].map != own)
			rc = check_object(libraries[i].map, libraries, count, err);
	}
	for (size_t i = 0; rc == ACCTLINK_OK && i < count; i++) {
		if (libraries[i].map != NULL && !begins(base_name(libraries[i].file), libraries[i].soname))
			al_log(log, ACCTLINK_LOG_NOTICE, "%s is used as it is found in %s", libraries[i].soname,
				libraries[i].file);
	}
	return rc;
}

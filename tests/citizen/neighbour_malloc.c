/* SPDX-License-Identifier: MIT
 * An allocator of a host's own, as jemalloc and the like are, for test_neighbours.sh: all
 * of the process uses it, and it ends the process at memory that it never gave. It never
 * takes memory back. Any thread.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXPORTED __attribute__((visibility("default")))
#define ROOM ((size_t)256 * 1024 * 1024) /* of the program's zero pages: used where touched */

static unsigned char room[ROOM] __attribute__((aligned(4096)));
static atomic_size_t used;

EXPORTED void *memalign(size_t alignment, size_t size);

static void *give(size_t alignment, size_t size)
{
	size_t wanted = size + alignment + sizeof(size_t);
	size_t at = size <= ROOM ? atomic_fetch_add(&used, wanted) : ROOM;
	uintptr_t place;

	if (at > ROOM - wanted)
		return NULL;
	place = ((uintptr_t)room + at + sizeof(size_t) + alignment - 1) / alignment * alignment;
	memcpy((void *)(place - sizeof(size_t)), &size, sizeof(size));
	return (void *)place;
}

static void must_be_ours(const void *memory)
{
	static const char words[] = "memory of another allocator was given to the host's\n";

	if (memory == NULL || ((uintptr_t)memory >= (uintptr_t)room && (uintptr_t)memory < (uintptr_t)room + ROOM))
		return;
	(void)!write(2, words, sizeof(words) - 1);
	_exit(55);
}

static size_t size_of(const void *memory)
{
	size_t size;

	memcpy(&size, (const char *)memory - sizeof(size), sizeof(size));
	return size;
}

EXPORTED void *malloc(size_t size)
{
	return give(16, size);
}

EXPORTED void *calloc(size_t count, size_t size)
{
	return size != 0 && count > ROOM / size ? NULL : give(16, count * size);
}

EXPORTED void free(void *memory)
{
	must_be_ours(memory);
}

EXPORTED void *realloc(void *memory, size_t size)
{
	void *other = give(16, size);

	must_be_ours(memory);
	if (memory != NULL && other != NULL)
		memcpy(other, memory, size < size_of(memory) ? size : size_of(memory));
	return other;
}

EXPORTED void *memalign(size_t alignment, size_t size)
{
	return give(alignment < 16 ? 16 : alignment, size);
}

EXPORTED void *aligned_alloc(size_t alignment, size_t size)
{
	return memalign(alignment, size);
}

EXPORTED int posix_memalign(void **memory, size_t alignment, size_t size)
{
	*memory = memalign(alignment, size);
	return *memory != NULL ? 0 : ENOMEM;
}

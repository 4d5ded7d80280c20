/* SPDX-License-Identifier: MIT
 * Held bearers of this process, by owner key. A chained table under one mutex
 * that is held for a look-up and a count only. What is held is never newer
 * than the store: a put tells at which change number it was true, and loses
 * against a drop or a poll that has seen later changes.
 */
#include "link/link_int.h"

#include <stdlib.h>
#include <string.h>

struct entry {
	struct entry *next;
	struct al_buf key;
	struct al_bearer *bearer; /* may be NULL while only a rejection is noted */
	int64_t rejected;         /* generation that the data API refused */
	bool used;                /* since the last eviction sweep */
};

struct al_cache {
	struct al_safe *safe; /* of the texts */
	pthread_mutex_t lock; /* guards all below */
	struct entry **buckets;
	size_t bucket_count; /* a power of two */
	size_t count;
	size_t max;
	size_t hand;           /* of the eviction clock */
	int64_t floor;         /* changes up to here have been applied */
	bool open;             /* the poller has begun: nothing is held before */
	unsigned char seed[8]; /* keys come from users: collisions can't be chosen */
};

void al_bearer_unref(struct al_bearer **bearer)
{
	if (*bearer == NULL)
		return;
	if (atomic_fetch_sub(&(*bearer)->refs, 1) == 1) {
		al_buf_clear(&(*bearer)->text);
		free(*bearer);
	}
	*bearer = NULL;
}

struct al_bearer *al_bearer_ref(struct al_bearer *bearer)
{
	if (bearer != NULL)
		(void)atomic_fetch_add(&bearer->refs, 1);
	return bearer;
}

al_rc al_cache_new(unsigned max, struct al_cache **out, acctlink_error *err)
{
	struct al_cache *cache = al_new(sizeof(*cache));
	al_rc rc;

	if (cache == NULL)
		return al_fail_memory(err);
	rc = al_random(cache->seed, sizeof(cache->seed), err);
	cache->safe = al_safe_new(false);
	cache->max = max;
	cache->bucket_count = 64;
	while (cache->bucket_count < max && cache->bucket_count < 65536)
		cache->bucket_count *= 2;
	cache->buckets = calloc(cache->bucket_count, sizeof(struct entry *));
	if (rc == ACCTLINK_OK
		&& (cache->buckets == NULL || cache->safe == NULL || pthread_mutex_init(&cache->lock, NULL) != 0))
		rc = al_fail_memory(err);
	if (rc != ACCTLINK_OK) {
		al_safe_free(&cache->safe);
		free(cache->buckets);
		free(cache);
		return rc;
	}
	*out = cache;
	return ACCTLINK_OK;
}

/* FNV-1a started at a secret seed. */
static size_t bucket_of(const struct al_cache *cache, const struct al_buf *key)
{
	uint64_t hash;
	const unsigned char *text = (const unsigned char *)al_buf_text(key);

	memcpy(&hash, cache->seed, sizeof(hash));
	for (size_t i = 0; i < key->len; i++)
		hash = (hash ^ text[i]) * 1099511628211u;
	return (size_t)(hash ^ hash >> 32) & (cache->bucket_count - 1);
}

static struct entry **slot_locked(struct al_cache *cache, const struct al_buf *key)
{
	struct entry **at = &cache->buckets[bucket_of(cache, key)];

	while (*at != NULL
		&& ((*at)->key.len != key->len || memcmp(al_buf_text(&(*at)->key), al_buf_text(key), key->len) != 0))
		at = &(*at)->next;
	return at;
}

static void free_entry(struct entry *entry)
{
	al_bearer_unref(&entry->bearer);
	al_buf_clear(&entry->key);
	free(entry);
}

static void remove_locked(struct al_cache *cache, struct entry **at)
{
	struct entry *entry = *at;

	*at = entry->next;
	cache->count--;
	free_entry(entry);
}

/* Second chance: a bucket's entries go unless they were used since. A noted
 * rejection stays. */
static void evict_locked(struct al_cache *cache)
{
	for (size_t tries = 0; cache->count >= cache->max && tries < 2 * cache->bucket_count; tries++) {
		struct entry **at = &cache->buckets[cache->hand];

		cache->hand = (cache->hand + 1) & (cache->bucket_count - 1);
		while (*at != NULL && cache->count >= cache->max) {
			if (!(*at)->used && (*at)->rejected == 0) {
				remove_locked(cache, at);
				continue;
			}
			(*at)->used = false;
			at = &(*at)->next;
		}
	}
}

static struct entry *entry_locked(struct al_cache *cache, const struct al_buf *key)
{
	struct entry **at = slot_locked(cache, key);
	struct entry *entry = *at;

	if (entry != NULL)
		return entry;
	evict_locked(cache);
	entry = al_new(sizeof(*entry));
	if (entry == NULL)
		return NULL;
	al_buf_init(&entry->key, key->max);
	if (!al_buf_copy(&entry->key, key)) {
		free(entry);
		return NULL;
	}
	at = &cache->buckets[bucket_of(cache, key)];
	entry->next = *at;
	*at = entry;
	cache->count++;
	return entry;
}

void al_cache_free(struct al_cache **cache)
{
	if (*cache == NULL)
		return;
	for (size_t i = 0; i < (*cache)->bucket_count; i++) {
		while ((*cache)->buckets[i] != NULL)
			remove_locked(*cache, &(*cache)->buckets[i]);
	}
	(void)pthread_mutex_destroy(&(*cache)->lock);
	al_safe_free(&(*cache)->safe);
	free((*cache)->buckets);
	free(*cache);
	*cache = NULL;
}

struct al_safe *al_cache_safe(const struct al_cache *cache)
{
	return cache->safe;
}

struct al_bearer *al_cache_get(struct al_cache *cache, const struct al_buf *owner_key)
{
	struct al_bearer *bearer = NULL;
	struct entry *entry;

	(void)pthread_mutex_lock(&cache->lock);
	entry = *slot_locked(cache, owner_key);
	if (entry != NULL) {
		entry->used = true;
		bearer = al_bearer_ref(entry->bearer);
	}
	(void)pthread_mutex_unlock(&cache->lock);
	return bearer;
}

void al_cache_put(struct al_cache *cache, const struct al_buf *owner_key, struct al_bearer *bearer, int64_t change)
{
	struct al_bearer *before = NULL;
	struct entry *entry;

	(void)pthread_mutex_lock(&cache->lock);
	entry = !cache->open || change < cache->floor ? NULL : entry_locked(cache, owner_key);
	if (entry != NULL && bearer->generation > entry->rejected) {
		before = entry->bearer;
		entry->bearer = al_bearer_ref(bearer);
	}
	(void)pthread_mutex_unlock(&cache->lock);
	al_bearer_unref(&before);
}

static void drop_bearer_locked(struct al_cache *cache, struct entry **at)
{
	if ((*at)->rejected == 0)
		remove_locked(cache, at);
	else
		al_bearer_unref(&(*at)->bearer);
}

void al_cache_drop(struct al_cache *cache, const struct al_buf *owner_key, int64_t change)
{
	struct entry **at;

	(void)pthread_mutex_lock(&cache->lock);
	if (change > cache->floor)
		cache->floor = change;
	at = slot_locked(cache, owner_key);
	if (*at != NULL)
		drop_bearer_locked(cache, at);
	(void)pthread_mutex_unlock(&cache->lock);
}

static bool agrees(const struct al_link_row *row, const struct al_bearer *bearer)
{
	return row->state != ACCTLINK_STATE_UNLINKING && row->state != ACCTLINK_STATE_SUPERSEDED
		&& row->epoch == bearer->epoch && row->generation == bearer->generation
		&& row->rejected_generation < bearer->generation;
}

void al_cache_row_changed(struct al_cache *cache, const struct al_link_row *row)
{
	struct entry **at;

	(void)pthread_mutex_lock(&cache->lock);
	/* At once: who read the row before this change may be about to put. */
	if (row->change > cache->floor)
		cache->floor = row->change;
	at = slot_locked(cache, &row->owner_key);
	/* A tombstone may share its owner key with the link that came after it. */
	if (*at != NULL && (*at)->bearer != NULL && strcmp((*at)->bearer->link_id, row->id) == 0
		&& !agrees(row, (*at)->bearer))
		drop_bearer_locked(cache, at);
	(void)pthread_mutex_unlock(&cache->lock);
}

void al_cache_polled(struct al_cache *cache, int64_t change)
{
	(void)pthread_mutex_lock(&cache->lock);
	cache->open = true;
	if (change > cache->floor)
		cache->floor = change;
	(void)pthread_mutex_unlock(&cache->lock);
}

void al_cache_drop_all(struct al_cache *cache, int64_t change)
{
	(void)pthread_mutex_lock(&cache->lock);
	if (change > cache->floor)
		cache->floor = change;
	for (size_t i = 0; i < cache->bucket_count; i++) {
		struct entry **at = &cache->buckets[i];

		while (*at != NULL) {
			if ((*at)->rejected == 0) {
				remove_locked(cache, at);
				continue;
			}
			al_bearer_unref(&(*at)->bearer);
			at = &(*at)->next;
		}
	}
	(void)pthread_mutex_unlock(&cache->lock);
}

bool al_cache_note_rejected(
	struct al_cache *cache, const struct al_buf *owner_key, const char *link_id, int64_t generation)
{
	struct al_bearer *dropped = NULL;
	struct entry *entry;
	bool fresh = false;

	(void)pthread_mutex_lock(&cache->lock);
	entry = entry_locked(cache, owner_key);
	if (entry != NULL && generation > entry->rejected
		&& (entry->bearer == NULL
			|| (generation >= entry->bearer->generation
				&& (link_id[0] == '\0' || strcmp(link_id, entry->bearer->link_id) == 0)))) {
		fresh = true;
		entry->rejected = generation;
		dropped = entry->bearer;
		entry->bearer = NULL;
	}
	(void)pthread_mutex_unlock(&cache->lock);
	al_bearer_unref(&dropped);
	return fresh;
}

int64_t al_cache_withheld(struct al_cache *cache, const struct al_buf *owner_key, const char *link_id, int64_t now_boot)
{
	struct entry *entry;
	int64_t withheld;

	(void)pthread_mutex_lock(&cache->lock);
	entry = *slot_locked(cache, owner_key);
	withheld = entry == NULL ? 0 : entry->rejected;
	if (entry != NULL && entry->bearer != NULL && entry->bearer->end_boot <= now_boot
		&& entry->bearer->generation > withheld && link_id != NULL
		&& strcmp(link_id, entry->bearer->link_id) == 0)
		withheld = entry->bearer->generation;
	(void)pthread_mutex_unlock(&cache->lock);
	return withheld;
}

void al_cache_forget_rejected(struct al_cache *cache, const struct al_buf *owner_key, int64_t generation)
{
	struct entry **at;

	(void)pthread_mutex_lock(&cache->lock);
	at = slot_locked(cache, owner_key);
	if (*at != NULL && (*at)->rejected == generation) {
		(*at)->rejected = 0;
		if ((*at)->bearer == NULL)
			remove_locked(cache, at);
	}
	(void)pthread_mutex_unlock(&cache->lock);
}

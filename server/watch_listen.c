#include "server/watch_listen.h"

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/mem.h"

enum { KEY_BUCKETS_COUNT = 1024, RANGES = KEY_BUCKETS_COUNT, LISTS_COUNT };

void watch_listeners_init(struct watch_listeners *s)
{
    *s = (struct watch_listeners){0};
    list_init(&s->due);
}

void watch_listeners_fini(struct watch_listeners *s)
{
    ASSERT(s->count == 0);
    mem_free(s->by_key);
}

static size_t bucket_of(struct slice key)
{
    return crc32c(0, key.data, key.size) % KEY_BUCKETS_COUNT;
}

void watch_listeners_add(struct watch_listeners *s, struct watch_listener *l)
{
    if (s->by_key == NULL) {
        s->by_key = mem_alloc(LISTS_COUNT * sizeof(*s->by_key));
        for (size_t i = 0; i < LISTS_COUNT; i++)
            list_init(&s->by_key[i]);
    }
    size_t at = l->range_end.size > 0 ? (size_t)RANGES : bucket_of(l->key);
    l->lost = false;
    list_init(&l->due_link);
    list_init(&l->link);
    list_push_back(&s->by_key[at], &l->link);
    s->count++;
}

void watch_listeners_remove(struct watch_listeners *s, struct watch_listener *l)
{
    if (!list_is_linked(&l->link))
        return;
    list_remove(&l->link);
    list_remove(&l->due_link);
    s->count--;
}

static void make_due(struct watch_listeners *s, struct watch_listener *l)
{
    if (!list_is_linked(&l->due_link))
        list_push_back(&s->due, &l->due_link);
}

static void offer(struct watch_listeners *s, struct list *listeners, const struct mvcc_version *v)
{
    struct slice key = mvcc_version_key(v);
    LIST_EACH (it, listeners) {
        struct watch_listener *l = CONTAINER_OF(it, struct watch_listener, link);
        if (watch_range_covers(l->key, l->range_end, key) && l->event(l, v))
            make_due(s, l);
    }
}

void watch_listeners_offer(struct watch_listeners *s, const struct mvcc_version *v)
{
    if (s->count == 0)
        return;
    offer(s, &s->by_key[bucket_of(mvcc_version_key(v))], v);
    offer(s, &s->by_key[RANGES], v);
}

void watch_listeners_lost(struct watch_listeners *s)
{
    for (size_t i = 0; s->count > 0 && i < LISTS_COUNT; i++)
        LIST_EACH (it, &s->by_key[i]) {
            struct watch_listener *l = CONTAINER_OF(it, struct watch_listener, link);
            l->lost = true;
            make_due(s, l);
        }
}

void watch_listeners_wake(struct watch_listeners *s)
{
    if (s->waking)
        return;
    s->waking = true;
    while (!list_is_empty(&s->due)) {
        struct watch_listener *l = CONTAINER_OF(s->due.next, struct watch_listener, due_link);
        list_remove(&l->due_link);
        l->woken(l, l->lost);
    }
    s->waking = false;
}

void watch_listeners_stop(struct watch_listeners *s)
{
    for (size_t i = 0; s->count > 0 && i < LISTS_COUNT; i++)
        LIST_EACH_SAFE (it, after, &s->by_key[i]) {
            struct watch_listener *l = CONTAINER_OF(it, struct watch_listener, link);
            l->stopped(l);
        }
}

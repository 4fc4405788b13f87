#include "server/watch_listen.h"

#include "base/assert.h"

static struct watch_listener *listener_of(struct interest *it)
{
    return CONTAINER_OF(it, struct watch_listener, in);
}

void watch_listeners_init(struct watch_listeners *s)
{
    *s = (struct watch_listeners){0};
    interests_init(&s->interests);
    list_init(&s->due);
}

void watch_listeners_fini(struct watch_listeners *s)
{
    interests_fini(&s->interests);
}

bool watch_listeners_is_empty(const struct watch_listeners *s)
{
    return interests_is_empty(&s->interests);
}

void watch_listener_init(struct watch_listener *l)
{
    *l = (struct watch_listener){0};
    list_init(&l->in.link);
    list_init(&l->due_link);
}

void watch_listeners_add(struct watch_listeners *s, struct watch_listener *l)
{
    l->lost = false;
    interests_add(&s->interests, &l->in);
}

void watch_listeners_remove(struct watch_listeners *s, struct watch_listener *l)
{
    interests_remove(&s->interests, &l->in);
    list_remove(&l->due_link);
}

static void make_due(struct watch_listeners *s, struct watch_listener *l)
{
    if (!list_is_linked(&l->due_link))
        list_push_back(&s->due, &l->due_link);
}

struct offer {
    struct watch_listeners *listeners;
    const struct mvcc_version *version;
};

static bool offer(void *ctx, struct interest *it)
{
    const struct offer *o = ctx;
    struct watch_listener *l = listener_of(it);
    if (l->event(l, o->version))
        make_due(o->listeners, l);
    return true;
}

void watch_listeners_offer(struct watch_listeners *s, const struct mvcc_version *v)
{
    struct offer o = {.listeners = s, .version = v};
    interests_of(&s->interests, mvcc_version_key(v), offer, &o);
}

void watch_listeners_lost(struct watch_listeners *s)
{
    LIST_EACH (it, &s->interests.all) {
        struct watch_listener *l = listener_of(CONTAINER_OF(it, struct interest, link));
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
    LIST_EACH_SAFE (it, after, &s->interests.all) {
        struct watch_listener *l = listener_of(CONTAINER_OF(it, struct interest, link));
        l->stopped(l);
    }
}

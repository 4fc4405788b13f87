/* Which copies of a database are open, so that it can be closed under them. */
#include "lsm_internal.h"

/* Of all databases' lists of copies, and of lsm_copy.l; taken before a copy's own lock. */
static pthread_mutex_t copies_lock = PTHREAD_MUTEX_INITIALIZER;

void lsm__copy_begin(struct lsm *l, struct lsm_copy *c)
{
    pthread_mutex_init(&c->lock, NULL);
    pthread_mutex_lock(&copies_lock);
    c->l = l;
    list_push_back(&l->copies, &c->link);
    pthread_mutex_unlock(&copies_lock);
}

/* The caller has copies_lock. */
static void end(struct lsm_copy *c)
{
    pthread_mutex_lock(&c->lock);
    list_remove(&c->link);
    rocksdb_iter_destroy(c->it);
    rocksdb_readoptions_destroy(c->options);
    c->it = NULL;
    c->l = NULL;
    pthread_mutex_unlock(&c->lock);
}

void lsm__copy_end(struct lsm_copy *c)
{
    pthread_mutex_lock(&copies_lock);
    if (c->l != NULL)
        end(c);
    pthread_mutex_unlock(&copies_lock);
}

void lsm__end_copies(struct lsm *l)
{
    pthread_mutex_lock(&copies_lock);
    while (!list_is_empty(&l->copies))
        end(CONTAINER_OF(l->copies.next, struct lsm_copy, link));
    pthread_mutex_unlock(&copies_lock);
}

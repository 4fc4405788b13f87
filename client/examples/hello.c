/* The shortest program: put a key, read it back. */
#include <stdio.h>
#include <trivet.h>

int main(int argc, char **argv)
{
    const char *endpoints[] = {argc > 1 ? argv[1] : "127.0.0.1:2379"};
    char why[256];
    struct trivet_options o;
    struct trivet_client *c;
    struct trivet_result r;

    trivet_options_init(&o);
    o.endpoints = endpoints;
    o.endpoints_count = 1;
    if (trivet_open(&o, &c, why, sizeof(why)) != TRIVET_OK) {
        (void)fprintf(stderr, "%s\n", why);
        return 1;
    }
    int status = trivet_put(c, trivet_str("hello"), trivet_str("world"), &r);
    if (status != TRIVET_OK)
        (void)fprintf(stderr, "%s: %s\n", trivet_status_name(status), r.error);
    trivet_result_clear(&r);
    if (status == TRIVET_OK && trivet_get(c, trivet_str("hello"), &r) == TRIVET_OK) {
        const struct trivet_kv *kv = r.u.range.kvs;
        (void)printf("%.*s at revision %lld\n", (int)kv->value.size, (const char *)kv->value.data,
                     (long long)kv->mod_revision);
        trivet_result_clear(&r);
    }
    trivet_close(c);
    return status != TRIVET_OK;
}

#include "rest.h"

#include <stdbool.h>

enum { WHOLE = 16, LONGER = WHOLE / 2, SHORTER = WHOLE / 8 };

void rest_after(struct rest *r, uint64_t took_ns, uint64_t cpu_ns, uint64_t now_ns)
{
    bool contended = took_ns > cpu_ns + cpu_ns / 4;
    if (contended && r->sixteenths < REST_MAX * WHOLE)
        r->sixteenths += LONGER;
    else if (!contended && r->sixteenths > 0)
        r->sixteenths -= SHORTER;
    r->until_ns = now_ns + cpu_ns / WHOLE * r->sixteenths;
}

void rest_forget(struct rest *r)
{
    *r = (struct rest){0};
}

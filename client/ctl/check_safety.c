/* Rules: are the data what they should be, and who can get at them? */
#include "checks.h"

#include <inttypes.h>
#include <string.h>

enum { CERT_DAYS_WARN = 30, CERT_DAYS_BAD = 7, DAY_S = 86400 };

static double number(const struct member_now *m, const char *name)
{
    return m != NULL && m->has_metrics ? prom_sum(&m->metrics, name, NULL, NULL) : 0;
}

static void look_contents(const struct check_facts *f, const struct check_rule *rule,
                          struct check_report *r)
{
    const struct check_hash *first = NULL;
    const struct member_now *first_member = NULL;
    for (uint32_t i = 0; i < f->now->count; i++) {
        const struct member_now *m = &f->now->members[i];
        if (number(m, "trivet_member_differs") > 0)
            check_find(r, rule, CHECK_BAD, "Member %s's contents differ: it serves nobody.",
                       check_name(m));
        const struct check_hash *h = f->hashes == NULL ? NULL : &f->hashes[i];
        if (h == NULL || !h->known)
            continue;
        if (first == NULL) {
            first = h;
            first_member = m;
        } else if (h->compact_revision == first->compact_revision && h->hash != first->hash) {
            check_find(r, rule, CHECK_BAD, "Members %s and %s differ in what they hold.",
                       check_name(first_member), check_name(m));
        }
    }
}

static void look_damage(const struct check_facts *f, const struct check_rule *rule,
                        struct check_report *r)
{
    for (uint32_t i = 0; i < f->now->count; i++) {
        const struct member_now *m = &f->now->members[i];
        double times = number(m, "trivet_member_damages_total");
        if (times > 0)
            check_find(r, rule, CHECK_WARN,
                       "Member %s has set damaged data aside %.0f times since it started.",
                       check_name(m), times);
    }
}

static void judge_cert(const struct check_rule *rule, struct check_report *r, const char *whose,
                       int64_t until_s, int64_t now_s)
{
    int64_t days = (until_s - now_s) / DAY_S;
    if (until_s == 0 || days >= CERT_DAYS_WARN)
        return;
    if (until_s <= now_s)
        check_find(r, rule, CHECK_BAD, "The certificate of %s has expired.", whose);
    else
        check_find(r, rule, days < CERT_DAYS_BAD ? CHECK_BAD : CHECK_WARN,
                   "The certificate of %s expires in %" PRId64 " days.", whose, days);
}

static void look_certs(const struct check_facts *f, const struct check_rule *rule,
                       struct check_report *r)
{
    for (uint32_t i = 0; i < f->now->count; i++) {
        char whose[128];
        const struct member_now *m = &f->now->members[i];
        (void)snprintf(whose, sizeof(whose), "member %s", check_name(m));
        judge_cert(rule, r, whose, m->metrics_page.cert_until_s, f->now->wall_s);
    }
    judge_cert(rule, r, "this client (--cert)", f->own_cert_until_s, f->now->wall_s);
}

static void look_cleartext(const struct check_facts *f, const struct check_rule *rule,
                           struct check_report *r)
{
    for (uint32_t i = 0; i < f->now->count; i++) {
        const struct member_now *m = &f->now->members[i];
        bool plain = m->metrics_page.status != 0 && !m->metrics_page.is_tls;
        if (plain && !check_is_loopback(m->address))
            check_find(r, rule, CHECK_WARN, "Clients talk to member %s in cleartext, at %s.",
                       check_name(m), m->address);
    }
}

static void look_auth(const struct check_facts *f, const struct check_rule *rule,
                      struct check_report *r)
{
    if (f->now->auth_enabled == 0 && !f->client_certs_asked)
        check_find(r, rule, CHECK_WARN,
                   "Authentication is off, and no client certificate is asked for: whoever reaches "
                   "the port may read and change everything.");
}

const struct check_rule check_safety_rules[] = {
    {"contents", "No member is known to differ.", "One of them gives wrong answers.",
     "Find the odd one out with 'endpoint hashkv --cluster'; remove it, delete its data and add it "
     "anew.",
     look_contents},
    {"damage", "No data was found damaged.", "A disk that damages data does it again.",
     "Look at the disk (smartctl, the kernel's log) and replace it.", look_damage},
    {"certificates", "No certificate expires soon.",
     "When it has expired, connections are refused.",
     "Renew it: the files are read again without a restart.", look_certs},
    {"cleartext", "No cleartext leaves the machines.",
     "Whoever is on the way reads keys, values and passwords, and can change them.",
     "Set --cert-file, --key-file and --trusted-ca-file, and use https:// in the URLs.",
     look_cleartext},
    {"auth", "Clients have to say who they are.", "A mistake or a stranger can delete everything.",
     "Turn on --client-cert-auth, or add a user root with the role root and 'auth enable'.",
     look_auth},
    {NULL},
};

/* Is this cluster healthy, and what would one mend? Rules look at what was gathered, twice, and say
 * what they find in sentences. They ask nobody anything, so that tests can give them what they
 * like.
 *
 * A rule that finds nothing is fine, and its title says what is so. Rules are in check_members.c,
 * check_load.c and check_safety.c. */
#ifndef CLIENT_CTL_CHECKS_H
#define CLIENT_CTL_CHECKS_H

#include "gather.h"

enum check_severity { CHECK_OK = 0, CHECK_WARN = 1, CHECK_BAD = 2 }; /* and exit statuses */

enum { CHECK_FINDINGS_MAX = 256, CHECK_TEXT_BYTES_MAX = 400 };

struct check_finding {
    enum check_severity severity;
    const char *rule; /* its name */
    char what[CHECK_TEXT_BYTES_MAX];
    const char *why;  /* does it matter */
    const char *todo; /* what to do about it */
};

/* What else is known. */
struct check_facts {
    const struct cluster_now *before; /* about a second earlier */
    const struct cluster_now *now;
    int64_t own_cert_until_s; /* of --cert; 0: none */
    bool client_certs_asked;  /* a handshake without a certificate was refused */
    /* HashKV at one revision of those who answer, in the order of `now`; NULL: not asked. */
    const struct check_hash *hashes;
};

struct check_hash {
    bool known;
    uint32_t hash;
    int64_t compact_revision;
};

struct check_report {
    struct check_finding findings[CHECK_FINDINGS_MAX];
    uint32_t count;
    enum check_severity worst;
};

struct check_rule {
    const char *name;  /* "quota"; NULL ends a table */
    const char *title; /* what is so when it finds nothing */
    const char *why;
    const char *todo;
    void (*look)(const struct check_facts *f, const struct check_rule *rule,
                 struct check_report *r);
};

extern const struct check_rule check_members_rules[], check_load_rules[], check_safety_rules[];
/* Of all, in their order; ends with NULL. */
extern const struct check_rule *const check_rules[];

void check_judge(const struct check_facts *f, struct check_report *ret);
/* A finding of `rule`; `why` and `todo` may be other than the rule's: NULL is the rule's. */
__attribute__((format(printf, 4, 5))) void check_find(struct check_report *r,
                                                      const struct check_rule *rule,
                                                      enum check_severity severity,
                                                      const char *what, ...);
/* What to do about the last finding is this, and not what the rule says. */
void check_advise(struct check_report *r, const char *todo);
bool check_found(const struct check_report *r, const struct check_rule *rule);

/* A member's name, else its address. */
const char *check_name(const struct member_now *m);
/* The member's counterpart in `before`; NULL: none that answered with metrics. */
const struct member_now *check_earlier(const struct check_facts *f, const struct member_now *m);
bool check_is_loopback(const char *address);

/* `trivetctl check` without another word: of measure.c's command. */
int ctl_check_cluster(struct ctl *c);
extern const struct ctl_flag ctl_check_flags[];

#endif

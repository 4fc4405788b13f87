/* `watch --resume FILE`: how far a watch has told, kept in a file, so that the next one goes on
 * there.
 *
 * The file has two places of RESUME_SLOT_BYTES, a line of text each with a CRC32C, written in turn
 * and made durable: one of them is always whole. It is locked as long as the watch runs.
 *
 * Standard output that is a file is part of it: the state says up to where it was written when all
 * up to the revision was told, and what is behind that when it is opened again, part of a message
 * maybe, is cut off and told again. So in a file each event is there once, also after kill -9; what
 * was said to a pipe may be said again, if the end came between that and the state. */
#ifndef CLIENT_CTL_RESUME_H
#define CLIENT_CTL_RESUME_H

#include "ctl.h"

enum { RESUME_SLOT_BYTES = 256 };

struct resume {
    struct ctl *c;
    const char *path;
    int fd;
    uint64_t watch; /* a hash of what is watched */
    uint64_t cluster_id;
    uint64_t sequence;
    int64_t revision; /* all up to here was told; 0: nothing is known */
    bool output_is_file;
    bool dirty; /* revision is newer than the file */
    uint64_t dirty_ns;
};

/* Opens, locks and reads the file, made when it is not there; and cuts the output back. Fails by
 * ctl_fail(): it is in use, no such file, or of another watch. */
void resume_open(struct resume *r, struct ctl *c, const char *path, struct trivet_bytes key,
                 struct trivet_bytes range_end);
/* All up to there is printed. `cluster_id` must stay the same. */
void resume_note(struct resume *r, uint64_t cluster_id, int64_t revision);
/* How long the next message may be waited for, in ms, before resume_save() is due. */
uint64_t resume_wait_ms(const struct resume *r, uint64_t else_ms);
/* Make durable what was noted. */
void resume_save(struct resume *r);

#endif

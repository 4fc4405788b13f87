/* Base64 (RFC 4648), in the two forms that etcd uses: the standard one, padded, for hashes of
 * passwords on the log; the one for URLs, without padding, for JSON web tokens. */
#ifndef SERVER_BASE64_H
#define SERVER_BASE64_H

#include "base/buf.h"

enum base64_form { BASE64_STANDARD, BASE64_URL };

/* Appends to *ret. */
void base64_encode(struct slice bytes, enum base64_form form, struct buf *ret);
/* Appends to *ret. Line breaks are passed over, as Go does. Errors: TV_EMALFORMED: *ret is as it
 * was. */
int base64_decode(struct slice text, enum base64_form form, struct buf *ret);

#endif

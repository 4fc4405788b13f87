/* Base64 (RFC 4648) as Go's decoders take it: line ends are passed over, and nothing else is.
 *
 * Thread: any. */
#ifndef BASE_BASE64_H
#define BASE_BASE64_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Which two characters come after letters and digits: + and /, or - and _. */
enum base64_form { BASE64_STANDARD, BASE64_URL };

static inline size_t base64_size(size_t bytes_size, bool padded)
{
    size_t rest = bytes_size % 3;
    return bytes_size / 3 * 4 + (rest == 0 ? 0 : padded ? 4 : rest + 1);
}

/* Writes base64_size() bytes to `dst`; returns the byte behind them. */
uint8_t *base64_put(uint8_t *dst, struct slice bytes, enum base64_form form, bool padded);
/* `dst` has room for three quarters of the text's size, and may be where the text is. Errors:
 * TV_EMALFORMED, also for padding that should not be there or is missing. */
int base64_get(struct slice text, enum base64_form form, bool padded, uint8_t *dst,
               size_t *ret_size);

/* The same appended to *ret; the standard form is padded, the one for URLs is not. Errors:
 * TV_EMALFORMED, TV_ETOOLARGE: *ret is full; it is as it was. */
void base64_encode(struct slice bytes, enum base64_form form, struct buf *ret);
int base64_decode(struct slice text, enum base64_form form, struct buf *ret);

#endif

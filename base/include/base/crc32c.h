/* CRC-32C (Castagnoli, RFC 3720 appendix B.4), with the CPU's instruction where there is one. */
#ifndef BASE_CRC32C_H
#define BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Extends `crc` (0 to begin) over the bytes. */
uint32_t crc32c(uint32_t crc, const void *data, size_t size);
/* The table-driven form, for machines without the instruction and for the test that compares both.
 */
uint32_t crc32c_portable(uint32_t crc, const void *data, size_t size);

#endif

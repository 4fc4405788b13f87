/* A whole node, a cluster of one, in the fuzzer's own thread: the real server on a real loop, its
 * log and RocksDB in a folder in memory. It is given bytes as if by a connection, and must be rid
 * of the connection, and of all its calls, when that is gone.
 *
 * What a node holds stays from input to input. It is stopped and another one begun now and then,
 * and when an input has left it unable to serve the next one (users, members that are not there);
 * then nothing may have leaked. When an input fails, all since the node began are in the folder
 * "inputs" of the node's, /dev/shm/trivet-fuzz-*; given to the target in their order, they lead
 * there again. */
#ifndef TESTS_FUZZ_FUZZ_NODE_H
#define TESTS_FUZZ_FUZZ_NODE_H

#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

enum fuzz_port { FUZZ_CLIENTS, FUZZ_PEERS };

struct fuzz_conn;

/* Once for each input, first of all. */
void fuzz_node_note(struct slice input);

struct fuzz_conn *fuzz_conn_open(enum fuzz_port port);
/* The node has seen to them when this returns, as far as it does without waiting. False: it has
 * closed the connection. */
bool fuzz_conn_send(struct fuzz_conn *c, struct slice bytes);
/* The same in pieces of so many bytes; 0: as one. */
bool fuzz_conn_send_in_pieces(struct fuzz_conn *c, struct slice bytes, size_t piece_bytes);
void fuzz_conn_close(struct fuzz_conn *c);

#endif

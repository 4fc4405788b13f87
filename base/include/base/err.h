/* Every failure trivet knows: one negative int, its name, the gRPC code it leaves as, and its text.
 *
 * The texts of the API's errors are contract: clients match on them. They are etcd's, from
 * api/v3rpc/rpctypes/error.go of v3.7.1, so that a client cannot tell the difference. */
#ifndef BASE_ERR_H
#define BASE_ERR_H

/* gRPC status codes (grpc/grpc doc/statuscodes.md). */
enum grpc_code {
    GRPC_OK = 0,
    GRPC_CANCELLED = 1,
    GRPC_UNKNOWN = 2,
    GRPC_INVALID_ARGUMENT = 3,
    GRPC_DEADLINE_EXCEEDED = 4,
    GRPC_NOT_FOUND = 5,
    GRPC_ALREADY_EXISTS = 6,
    GRPC_PERMISSION_DENIED = 7,
    GRPC_RESOURCE_EXHAUSTED = 8,
    GRPC_FAILED_PRECONDITION = 9,
    GRPC_ABORTED = 10,
    GRPC_OUT_OF_RANGE = 11,
    GRPC_UNIMPLEMENTED = 12,
    GRPC_INTERNAL = 13,
    GRPC_UNAVAILABLE = 14,
    GRPC_DATA_LOSS = 15,
    GRPC_UNAUTHENTICATED = 16,
};

/* X(name, number, gRPC code, text) */
#define TV_ERR_MAP(X)                                                                              \
    /* Operating errors inside trivet. */                                                          \
    X(ENOMEM, 1, RESOURCE_EXHAUSTED, "out of memory")                                              \
    X(ETOOLARGE, 2, RESOURCE_EXHAUSTED, "larger than the limit")                                   \
    X(EAGAIN, 3, UNAVAILABLE, "not available yet")                                                 \
    X(EBUSY, 4, UNAVAILABLE, "busy")                                                               \
    X(EIO, 5, INTERNAL, "input/output error")                                                      \
    X(ECORRUPT, 6, DATA_LOSS, "data is damaged")                                                   \
    X(EMALFORMED, 7, INTERNAL, "malformed message")                                                \
    X(EINVAL, 8, INVALID_ARGUMENT, "invalid argument")                                             \
    X(ENOTFOUND, 9, NOT_FOUND, "not found")                                                        \
    X(ECLOSED, 10, UNAVAILABLE, "connection closed")                                               \
    X(ETIMEDOUT, 11, DEADLINE_EXCEEDED, "timed out")                                               \
    X(ENOSPC, 12, RESOURCE_EXHAUSTED, "no space left on device")                                   \
    X(ECOMPACTED_LOG, 13, INTERNAL, "log entries are no longer kept")                              \
    X(EDROPPED, 14, UNAVAILABLE, "raft proposal dropped")                                          \
    X(EEXIST, 15, ALREADY_EXISTS, "already exists")                                                \
    X(ENOTSUP, 16, UNIMPLEMENTED, "not supported")                                                 \
    /* The API's errors. */                                                                        \
    X(EMPTY_KEY, 101, INVALID_ARGUMENT, "etcdserver: key is not provided")                         \
    X(KEY_NOT_FOUND, 102, INVALID_ARGUMENT, "etcdserver: key not found")                           \
    X(VALUE_PROVIDED, 103, INVALID_ARGUMENT, "etcdserver: value is provided")                      \
    X(LEASE_PROVIDED, 104, INVALID_ARGUMENT, "etcdserver: lease is provided")                      \
    X(TOO_MANY_OPS, 105, INVALID_ARGUMENT, "etcdserver: too many operations in txn request")       \
    X(DUPLICATE_KEY, 106, INVALID_ARGUMENT, "etcdserver: duplicate key given in txn request")      \
    X(INVALID_CLIENT_API_VERSION, 107, INVALID_ARGUMENT, "etcdserver: invalid client api version") \
    X(INVALID_SORT_OPTION, 108, INVALID_ARGUMENT, "etcdserver: invalid sort option")               \
    X(COMPACTED, 109, OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted")      \
    X(FUTURE_REV, 110, OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision")   \
    X(NO_SPACE, 111, RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded")              \
    X(LEASE_NOT_FOUND, 112, NOT_FOUND, "etcdserver: requested lease not found")                    \
    X(LEASE_EXIST, 113, FAILED_PRECONDITION, "etcdserver: lease already exists")                   \
    X(LEASE_TTL_TOO_LARGE, 114, OUT_OF_RANGE, "etcdserver: too large lease TTL")                   \
    X(WATCH_CANCELED, 115, CANCELLED, "etcdserver: watch canceled")                                \
    X(MEMBER_EXIST, 116, FAILED_PRECONDITION, "etcdserver: member ID already exist")               \
    X(PEER_URL_EXIST, 117, FAILED_PRECONDITION, "etcdserver: Peer URLs already exists")            \
    X(MEMBER_NOT_ENOUGH_STARTED, 118, FAILED_PRECONDITION,                                         \
      "etcdserver: re-configuration failed due to not enough started members")                     \
    X(MEMBER_BAD_URLS, 119, INVALID_ARGUMENT, "etcdserver: given member URLs are invalid")         \
    X(MEMBER_NOT_FOUND, 120, NOT_FOUND, "etcdserver: member not found")                            \
    X(MEMBER_NOT_LEARNER, 121, FAILED_PRECONDITION,                                                \
      "etcdserver: can only promote a learner member")                                             \
    X(LEARNER_NOT_READY, 122, FAILED_PRECONDITION,                                                 \
      "etcdserver: can only promote a learner member which is in sync with leader")                \
    X(TOO_MANY_LEARNERS, 123, FAILED_PRECONDITION,                                                 \
      "etcdserver: too many learner members in cluster")                                           \
    X(REQUEST_TOO_LARGE, 125, INVALID_ARGUMENT, "etcdserver: request is too large")                \
    /* Two errors leave etcd as Unknown: they are mapped to a type without a gRPC status. */       \
    X(TOO_MANY_REQUESTS, 126, UNKNOWN, "etcdserver: too many requests")                            \
    X(ROOT_USER_NOT_EXIST, 127, FAILED_PRECONDITION, "etcdserver: root user does not exist")       \
    X(ROOT_ROLE_NOT_EXIST, 128, FAILED_PRECONDITION,                                               \
      "etcdserver: root user does not have root role")                                             \
    X(USER_ALREADY_EXIST, 129, FAILED_PRECONDITION, "etcdserver: user name already exists")        \
    X(USER_EMPTY, 130, INVALID_ARGUMENT, "etcdserver: user name is empty")                         \
    X(USER_NOT_FOUND, 131, FAILED_PRECONDITION, "etcdserver: user name not found")                 \
    X(ROLE_ALREADY_EXIST, 132, FAILED_PRECONDITION, "etcdserver: role name already exists")        \
    X(ROLE_NOT_FOUND, 133, FAILED_PRECONDITION, "etcdserver: role name not found")                 \
    X(ROLE_EMPTY, 134, INVALID_ARGUMENT, "etcdserver: role name is empty")                         \
    X(AUTH_FAILED, 135, INVALID_ARGUMENT,                                                          \
      "etcdserver: authentication failed, invalid user ID or password")                            \
    X(PERMISSION_NOT_GIVEN, 136, INVALID_ARGUMENT, "etcdserver: permission not given")             \
    X(PERMISSION_DENIED, 137, PERMISSION_DENIED, "etcdserver: permission denied")                  \
    X(ROLE_NOT_GRANTED, 138, FAILED_PRECONDITION, "etcdserver: role is not granted to the user")   \
    X(PERMISSION_NOT_GRANTED, 139, FAILED_PRECONDITION,                                            \
      "etcdserver: permission is not granted to the role")                                         \
    X(AUTH_NOT_ENABLED, 140, FAILED_PRECONDITION, "etcdserver: authentication is not enabled")     \
    X(INVALID_AUTH_TOKEN, 141, UNAUTHENTICATED, "etcdserver: invalid auth token")                  \
    X(INVALID_AUTH_MGMT, 142, INVALID_ARGUMENT, "etcdserver: invalid auth management")             \
    X(AUTH_OLD_REVISION, 143, INVALID_ARGUMENT, "etcdserver: revision of auth store is old")       \
    X(NO_LEADER, 144, UNAVAILABLE, "etcdserver: no leader")                                        \
    X(NOT_LEADER, 145, FAILED_PRECONDITION, "etcdserver: not leader")                              \
    X(LEADER_CHANGED, 146, UNAVAILABLE, "etcdserver: leader changed")                              \
    X(STOPPED, 148, UNAVAILABLE, "etcdserver: server stopped")                                     \
    X(TIMEOUT, 149, UNAVAILABLE, "etcdserver: request timed out")                                  \
    X(TIMEOUT_LEADER_FAIL, 150, UNAVAILABLE,                                                       \
      "etcdserver: request timed out, possibly due to previous leader failure")                    \
    X(TIMEOUT_CONNECTION_LOST, 151, UNAVAILABLE,                                                   \
      "etcdserver: request timed out, possibly due to connection lost")                            \
    X(TIMEOUT_WAIT_APPLIED, 152, UNAVAILABLE,                                                      \
      "etcdserver: request timed out, waiting for the applied index took too long")                \
    X(TIMEOUT_LEADER_TRANSFER, 153, UNKNOWN,                                                       \
      "etcdserver: request timed out, leader transfer took too long")                              \
    X(CORRUPT, 154, DATA_LOSS, "etcdserver: corrupt cluster")                                      \
    X(UNHEALTHY, 155, UNAVAILABLE, "etcdserver: unhealthy cluster")                                \
    X(BAD_LEADER_TRANSFEREE, 156, FAILED_PRECONDITION, "etcdserver: bad leader transferee")        \
    X(NOT_SUPPORTED_FOR_LEARNER, 157, FAILED_PRECONDITION,                                         \
      "etcdserver: rpc not supported for learner")                                                 \
    X(RANGE_STREAM_SORT, 158, UNIMPLEMENTED, "RangeStream does not support custom sort orders")    \
    X(RANGE_STREAM_FILTER, 159, UNIMPLEMENTED, "RangeStream does not support revision filters")    \
    X(WRONG_DOWNGRADE_FORMAT, 160, INVALID_ARGUMENT,                                               \
      "etcdserver: wrong downgrade target version format")                                         \
    X(INVALID_DOWNGRADE_TARGET, 161, INVALID_ARGUMENT,                                             \
      "etcdserver: invalid downgrade target version")                                              \
    X(DOWNGRADE_IN_PROCESS, 162, FAILED_PRECONDITION,                                              \
      "etcdserver: cluster has a downgrade job in progress")                                       \
    X(UNKNOWN_METHOD, 163, UNKNOWN, "etcdserver: unknown method")                                  \
    /* Errors that etcd does not translate: they leave as Unknown, with the words of the inside.   \
     */                                                                                            \
    X(NO_PASSWORD_USER, 170, UNKNOWN,                                                              \
      "auth: authentication failed, password was given for no password user")                      \
    X(AUTH_VERIFY_ONLY, 171, UNKNOWN, "auth: token signing attempted with verify-only key")        \
    X(INVALID_AUTH_OPTS, 172, UNKNOWN, "auth: invalid auth options")                               \
    X(PASSWORD_TOO_LONG, 173, UNKNOWN, "bcrypt: password length exceeds 72 bytes")                 \
    X(PASSWORD_HAS_NUL, 174, INVALID_ARGUMENT, "trivet: a password cannot have a NUL byte")        \
    /* Texts of the gRPC library that etcd is built with. */                                       \
    X(CANCELED, 201, CANCELLED, "context canceled")                                                \
    X(DEADLINE_EXCEEDED, 202, DEADLINE_EXCEEDED, "context deadline exceeded")

enum tv_err {
    TV_OK = 0,
#define X(name, number, code, text) TV_##name = -(number),
    TV_ERR_MAP(X)
#undef X
};

/* For any int; unknown numbers get a text that says so. Never NULL. */
const char *tv_err_text(int err);
const char *tv_err_name(int err);
enum grpc_code tv_err_code(int err);

#endif

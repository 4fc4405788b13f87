/* Any bytes as a name server's answer. */
#include "base/srv.h"

#include "base/assert.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct srv_record records[SRV_RECORDS_MAX];
    int count = srv_parse(data, size, records);
    ASSERT(count <= SRV_RECORDS_MAX);
    for (int i = 0; i < count; i++)
        ASSERT(strlen(records[i].target) < sizeof(records[i].target));
    return 0;
}

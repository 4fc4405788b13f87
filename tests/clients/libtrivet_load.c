#include "libtrivet_scenes.h"
void scene_load(struct trivet_client *c, const struct trivet_options *o, int seconds)
{
    (void)c, (void)o, (void)seconds;
}

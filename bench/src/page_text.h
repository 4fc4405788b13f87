/* What every page begins and ends with. */
#ifndef BENCH_PAGE_TEXT_H
#define BENCH_PAGE_TEXT_H

extern const char page_style[];
extern const char page_script[];

#endif

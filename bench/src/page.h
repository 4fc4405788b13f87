/* `trivet-bench report RUN.json > report.html` */
#ifndef BENCH_PAGE_H
#define BENCH_PAGE_H

/* argv[0] is "report". The exit status. */
int page_main(int argc, char **argv);

#endif

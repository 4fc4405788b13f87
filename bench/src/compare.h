/* `trivet-bench compare A.json B.json` */
#ifndef BENCH_COMPARE_H
#define BENCH_COMPARE_H

/* argv[0] is "compare". The exit status: 0, whether they differ or not; 2: they cannot be compared.
 */
int compare_main(int argc, char **argv);

#endif

/* The manners of a thread that others wait for. */
#ifndef BASE_PROMPT_H
#define BASE_PROMPT_H

/* Let the calling thread have a CPU soon after it is woken also where all are busy: it asks for
 * turns that are shorter than others', and gets them earlier (EEVDF of Linux 6.12 and later; its
 * share stays the same). So are the threads that it starts from then on, the kernel's own for
 * io_uring among them. An older kernel, or one that forbids it, leaves everything as it was. */
void prompt_thread(void);

/* To be called now and then by a prompt thread that works for long. The kernel looks whether a turn
 * is over when somebody wakes or the clock ticks, up to every 4 ms, and when a thread asks what CPU
 * time it had: so this asks. Costs a look at the clock, and 0.2 us when half a turn has gone by
 * since the last time. */
void prompt_check(void);

/* The calling thread has turns like others' again. */
void prompt_thread_end(void);

#endif

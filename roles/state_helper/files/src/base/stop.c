/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "base/stop.h"

#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <unistd.h>

static const struct {
    int number;
    const char *name;
} signals[] = {{SIGTERM, "SIGTERM"}, {SIGINT, "SIGINT"}, {SIGHUP, "SIGHUP"}};

enum { OPEN, DEFERRED, ENDING };
static _Atomic int state, noted;

static void on_signal(int number)
{
    int was = OPEN;
    if (!atomic_compare_exchange_strong(&state, &was, ENDING) && was == DEFERRED) {
        atomic_store(&noted, number);
        return;
    }
    signal(number, SIG_DFL);
    raise(number); /* delivered when the handler returns */
}

void stop_install(void)
{
    /* SA_RESTART: a signal that is only remembered makes no system call fail. */
    struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_RESTART}, old;
    sigemptyset(&sa.sa_mask);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        if (sigaction(signals[i].number, NULL, &old) == 0 && old.sa_handler != SIG_IGN)
            sigaction(signals[i].number, &sa, NULL);
}

void stop_defer(void)
{
    int was = OPEN;
    /* Another thread may have the signal already, and ends the program. Until then, do nothing
     * more. */
    if (!atomic_compare_exchange_strong(&state, &was, DEFERRED))
        while (was == ENDING)
            pause();
}

const char *stop_signal(void)
{
    int number = atomic_load(&noted);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        if (signals[i].number == number)
            return signals[i].name;
    return NULL;
}

/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "base/identity.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "base/hooks.h"
#include "base/status.h"

/* Converts 32 hexadecimal digits, with or without dashes, to 16 bytes. Returns 0 if text is
 * anything else. */
static int parse_id(const char *text, uint8_t out[16])
{
    int digits = 0;
    memset(out, 0, 16);
    for (; *text && *text != '\n'; text++) {
        static const char hex[] = "0123456789abcdef";
        const char *at = strchr(hex, *text | 0x20);
        if (*text == '-')
            continue;
        if (!at || digits == 32)
            return 0;
        out[digits / 2] |= (uint8_t)((at - hex) << (digits % 2 ? 0 : 4));
        digits++;
    }
    return digits == 32;
}

static int read_id(const char *override, const char *path, uint8_t out[16])
{
    char line[64] = "";
    const char *text = test_override(override);
    if (text)
        return parse_id(text, out);
    FILE *f = fopen(path, "re");
    if (!f)
        return 0;
    int ok = fgets(line, sizeof line, f) && parse_id(line, out);
    fclose(f);
    return ok;
}

int identity_read(struct identity *id, struct problem *p)
{
    struct utsname u;
    memset(id, 0, sizeof *id);
    id->has_machine_id = read_id("PMEM_STATE_MACHINE_ID", "/etc/machine-id", id->machine_id) ||
                         read_id("PMEM_STATE_MACHINE_ID", "/var/lib/dbus/machine-id", id->machine_id);
    if (!read_id("PMEM_STATE_BOOT_ID", "/proc/sys/kernel/random/boot_id", id->boot_id))
        return problem_set(p, EXIT_SYSTEM, 0, "/proc/sys/kernel/random/boot_id does not contain a boot ID", "Mount /proc.",
                           "Identifying this boot");
    if (uname(&u) == 0)
        snprintf(id->kernel, sizeof id->kernel, "%s", u.release);
    return 0;
}

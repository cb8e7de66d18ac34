/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "base/problem.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/status.h"

static void fill(struct problem *p, int code, int err, const char *said, const char *todo, const char *what, va_list ap)
{
    p->code = code;
    p->err = err;
    vsnprintf(p->what, sizeof p->what, what, ap);
    snprintf(p->said, sizeof p->said, "%s", said ? said : err ? strerror(err) : "");
    snprintf(p->todo, sizeof p->todo, "%s", todo ? todo : "");
}

int problem_set(struct problem *p, int code, int err, const char *said, const char *todo, const char *what, ...)
{
    va_list ap;
    if (p->code)
        return p->code;
    va_start(ap, what);
    fill(p, code, err, said, todo, what, ap);
    va_end(ap);
    return code;
}

int problem_refuse(struct problem *p, const char *reason, const char *said, const char *todo, const char *what, ...)
{
    va_list ap;
    if (p->code)
        return p->code;
    va_start(ap, what);
    fill(p, EXIT_REFUSED, 0, said, todo, what, ap);
    va_end(ap);
    p->refused = reason;
    return EXIT_REFUSED;
}

const char *errno_name(int err)
{
    static const struct { int err; const char *name; } names[] = {
        {EACCES, "EACCES"}, {EAGAIN, "EAGAIN"}, {EBADF, "EBADF"}, {EBUSY, "EBUSY"}, {EDQUOT, "EDQUOT"},
        {EEXIST, "EEXIST"}, {EFAULT, "EFAULT"}, {EFBIG, "EFBIG"}, {EINTR, "EINTR"}, {EINVAL, "EINVAL"},
        {EIO, "EIO"}, {EISDIR, "EISDIR"}, {ELOOP, "ELOOP"}, {EMFILE, "EMFILE"}, {EMLINK, "EMLINK"},
        {ENAMETOOLONG, "ENAMETOOLONG"}, {ENFILE, "ENFILE"}, {ENODEV, "ENODEV"}, {ENOENT, "ENOENT"},
        {ENOMEM, "ENOMEM"}, {ENOSPC, "ENOSPC"}, {ENOSYS, "ENOSYS"}, {ENOTBLK, "ENOTBLK"}, {ENOTDIR, "ENOTDIR"},
        {ENOTEMPTY, "ENOTEMPTY"}, {ENOTSUP, "ENOTSUP"}, {ENXIO, "ENXIO"}, {EPERM, "EPERM"}, {EROFS, "EROFS"},
        {ESTALE, "ESTALE"}, {EXDEV, "EXDEV"}, {E2BIG, "E2BIG"}, {ENODATA, "ENODATA"}, {ERANGE, "ERANGE"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].err == err)
            return names[i].name;
    return NULL;
}

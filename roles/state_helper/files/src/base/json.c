/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "base/json.h"

#include <inttypes.h>

/* Returns the length of the valid UTF-8 sequence at p, or 0 if the bytes are not valid (RFC 3629:
 * overlong forms and surrogates are not). */
static int utf8_length(const unsigned char *p)
{
    int n = p[0] < 0x80 ? 1 : p[0] >= 0xc2 && p[0] <= 0xdf ? 2 : (p[0] & 0xf0) == 0xe0 ? 3 : p[0] >= 0xf0 && p[0] <= 0xf4 ? 4 : 0;
    for (int i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
        (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return n;
}

static void quoted(struct json *j, const char *s)
{
    const unsigned char *p = (const unsigned char *)s;
    putc('"', j->out);
    while (*p) {
        int n = utf8_length(p);
        if (n == 0) {
            fprintf(j->out, "\\udc%02x", *p++);
        } else if (n == 1 && (*p < 0x20 || *p == 0x7f)) {
            fprintf(j->out, "\\u%04x", *p++);
        } else {
            if (*p == '"' || *p == '\\')
                putc('\\', j->out);
            fwrite(p, 1, (size_t)n, j->out);
            p += n;
        }
    }
    putc('"', j->out);
}

static void member(struct json *j, const char *key)
{
    if (!j->first)
        fputs(", ", j->out);
    j->first = 0;
    if (key) {
        quoted(j, key);
        fputs(": ", j->out);
    }
}

static void open_with(struct json *j, char opener, char closer)
{
    putc(opener, j->out);
    j->closer[j->depth++] = closer;
    j->first = 1;
}

void json_start(struct json *j, FILE *out)
{
    j->out = out;
    j->depth = 0;
    open_with(j, '{', '}');
}

void json_object(struct json *j, const char *key)
{
    member(j, key);
    open_with(j, '{', '}');
}

void json_array(struct json *j, const char *key)
{
    member(j, key);
    open_with(j, '[', ']');
}

void json_end(struct json *j)
{
    putc(j->closer[--j->depth], j->out);
    j->first = 0;
}

void json_string(struct json *j, const char *key, const char *value)
{
    member(j, key);
    if (value)
        quoted(j, value);
    else
        fputs("null", j->out);
}

void json_uint(struct json *j, const char *key, uint64_t value)
{
    member(j, key);
    fprintf(j->out, "%" PRIu64, value);
}

void json_int(struct json *j, const char *key, int64_t value)
{
    member(j, key);
    fprintf(j->out, "%" PRId64, value);
}

void json_double(struct json *j, const char *key, double value, int decimals)
{
    member(j, key);
    fprintf(j->out, "%.*f", decimals, value);
}

void json_finish(struct json *j)
{
    while (j->depth)
        json_end(j);
    putc('\n', j->out);
    fflush(j->out);
}

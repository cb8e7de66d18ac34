/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Writes one JSON object on one line. A NULL string is null; key NULL is for array members. Bytes
 * that are not UTF-8 become lone surrogates \udcXX (Python's surrogateescape), so that every file
 * name has exactly one spelling. */
#ifndef JSON_H
#define JSON_H

#include <stdint.h>
#include <stdio.h>

struct json {
    FILE *out;
    int first; /* no comma needed before the next member */
    int depth;
    char closer[16];
};

void json_start(struct json *j, FILE *out);
void json_object(struct json *j, const char *key);
void json_array(struct json *j, const char *key);
void json_end(struct json *j); /* closes the innermost object or array */
void json_string(struct json *j, const char *key, const char *value);
void json_uint(struct json *j, const char *key, uint64_t value);
void json_int(struct json *j, const char *key, int64_t value);
void json_double(struct json *j, const char *key, double value, int decimals);
void json_finish(struct json *j); /* closes the first object, ends the line, flushes */

#endif
